"""The bench room. Imported as ``opensora_fast.bench``."""

if __name__ != "opensora_fast.bench":
    raise ImportError(
        "import this room as opensora_fast.bench: "
        "a second copy of its classes would not match the first"
    )
