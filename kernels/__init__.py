"""The kernels room. Imported as ``opensora_fast.kernels``."""

if __name__ != "opensora_fast.kernels":
    raise ImportError(
        "import this room as opensora_fast.kernels: a second copy of its classes would not match the first"
    )

from .group_norm_silu import group_norm_silu

__all__ = ["group_norm_silu"]
