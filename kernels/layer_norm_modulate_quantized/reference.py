"""The definition of layer_norm_modulate_quantized: one op after the other, fp32 in between."""

from __future__ import annotations

from torch import Tensor

from ..contract import wide
from ..layer_norm_modulate import reference as layer_norm_modulate
from ..quantize_rows import reference as quantize_rows


def forward(
    x: Tensor, shift: Tensor, scale: Tensor, format: str, eps: float
) -> tuple[Tensor, Tensor]:
    """Return values and scales."""
    y = layer_norm_modulate.forward(x.to(wide(x.dtype)), shift, scale, eps)
    return quantize_rows.forward(y, format)
