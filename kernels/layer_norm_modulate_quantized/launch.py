"""What the Triton kernel of layer_norm_modulate_quantized can run; launched as its relative is."""

from __future__ import annotations

from torch import Tensor

from ..layer_norm_modulate import launch as plain
from ..quantize_rows.launch import format_why_not


def why_not(x: Tensor, shift: Tensor, scale: Tensor, format: str, eps: float) -> str | None:
    """Return why the kernel cannot serve a call, or None."""
    return plain.why_not(x, shift, scale, eps) or format_why_not(x, format)
