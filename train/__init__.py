"""The train room. Imported as ``opensora_fast.train``."""

if __name__ != "opensora_fast.train":
    raise ImportError(
        "import this room as opensora_fast.train: "
        "a second copy of its classes would not match the first"
    )
