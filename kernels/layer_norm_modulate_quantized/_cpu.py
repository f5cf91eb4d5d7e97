"""layer_norm_modulate_quantized on the CPU: layer_norm_modulate in C++ in fp32, then torch."""

from __future__ import annotations

import torch
from torch import Tensor

from .. import native
from ..layer_norm_modulate import _cpu as layer_norm_modulate
from ..quantize_rows import reference as quantize_rows

VERIFIED = layer_norm_modulate.VERIFIED


def why_not(x: Tensor, shift: Tensor, scale: Tensor, format: str, eps: float) -> str | None:
    """Say why the kernel cannot serve this call, or return None."""
    if x.dtype is torch.float64:
        return "rows are quantised from fp32, x is fp64"
    return native.why_no_cpu()


def forward(
    x: Tensor, shift: Tensor, scale: Tensor, format: str, eps: float
) -> tuple[Tensor, Tensor]:
    """Return values and scales."""
    x, shift, scale = (tensor.to(torch.float32) for tensor in (x, shift, scale))
    y = layer_norm_modulate.forward(x, shift, scale, eps)
    return quantize_rows.forward(y, format)
