"""The models room. Imported as ``opensora_fast.models``."""

if __name__ != "opensora_fast.models":
    raise ImportError("import this room as opensora_fast.models: a second copy of its classes would not match the first")
