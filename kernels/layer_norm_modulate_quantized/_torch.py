"""layer_norm_modulate_quantized through torch's own layer norm in fp32, then the definition."""

from __future__ import annotations

import torch
from torch import Tensor

from ..layer_norm_modulate import _torch as layer_norm_modulate
from ..quantize_rows import reference as quantize_rows

VERIFIED = layer_norm_modulate.VERIFIED


def why_not(x: Tensor, shift: Tensor, scale: Tensor, format: str, eps: float) -> str | None:
    """Say why the library cannot serve this call, or return None."""
    return layer_norm_modulate.why_not(x)


def forward(
    x: Tensor, shift: Tensor, scale: Tensor, format: str, eps: float
) -> tuple[Tensor, Tensor]:
    """Return values and scales."""
    y = layer_norm_modulate.forward(x.to(torch.float32), shift, scale, eps)
    return quantize_rows.forward(y, format)
