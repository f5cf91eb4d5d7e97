"""The definition of quantized_linear: y = (v_x v_w^T) * s_x * s_w + bias."""

from __future__ import annotations

import torch
from torch import Tensor

from ..contract import wide
from ..quantize_rows import reference as quantize_rows
from ..quantize_rows.formats import format_of


def forward(
    x: Tensor,
    x_scales: Tensor | None,
    weight: Tensor,
    weight_scales: Tensor,
    bias: Tensor | None,
    dtype: torch.dtype | None,
) -> Tensor:
    """Return y. Where x has no scales it is quantised first, and y has its dtype."""
    if x_scales is None:
        dtype = x.dtype
        x, x_scales = quantize_rows.forward(
            x, format_of("quantized_linear", "weight", weight.dtype)
        )
    assert dtype is not None
    accumulate = wide(dtype)
    products = x.to(accumulate) @ weight.to(accumulate).T
    y = products * (x_scales.to(accumulate)[..., None] * weight_scales.to(accumulate))
    if bias is not None:
        y = y + bias.to(accumulate)
    return y.to(dtype).contiguous()
