"""Linear layers with 8-bit weights, and the 8-bit rows that go into them. Inference only.

Axes: L tokens, K channels in, N channels out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from opensora_fast.kernels import layer_norm_modulate_quantized, quantized_linear
from opensora_fast.kernels.quantized_linear import quantize_weight


class QuantizedRows(NamedTuple):
    """Tokens as 8-bit numbers: values `[..., K]`, fp32 scales `[...]`, and the dtype they had."""

    values: Tensor
    scales: Tensor
    dtype: torch.dtype


class QuantizedLinear(nn.Module):
    """A linear layer with an 8-bit weight and a scale per output channel; made from a loaded one.

    Args:
        linear: the layer to stand in for; its bias is kept as it is.
        format: "int8" or "fp8" (e4m3).
    """

    weight: Tensor
    weight_scales: Tensor
    bias: Tensor | None

    def __init__(self, linear: nn.Linear, format: str) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.format = format
        values, scales = quantize_weight(linear.weight.detach(), format)
        self.register_buffer("weight", values)
        self.register_buffer("weight_scales", scales)
        self.register_buffer("bias", None if linear.bias is None else linear.bias.detach())

    def forward(self, x: Tensor | QuantizedRows) -> Tensor:
        """Apply the layer to tokens `[..., K]`; what is not yet quantised is so here, by token."""
        y: Tensor
        if isinstance(x, QuantizedRows):
            y = quantized_linear(
                x.values, self.weight, self.weight_scales, self.bias, x.scales, x.dtype
            )
        else:
            y = quantized_linear(x, self.weight, self.weight_scales, self.bias)
        return y

    def extra_repr(self) -> str:
        """Sizes and format, for printing."""
        return f"{self.in_features}, {self.out_features}, {self.format}"


def modulated_rows(
    x: Tensor, shift: Tensor, scale: Tensor, readers: Sequence[nn.Module]
) -> QuantizedRows | None:
    """Normalise, modulate and quantise x in one pass, if all that read it take the same format.

    Args:
        x: tokens `[B, L, K]`.
        shift: `[B, K]`.
        scale: `[B, K]`.
        readers: the layers that read the result.

    Returns:
        The rows; None if a reader is no 8-bit layer.
    """
    formats = {r.format if isinstance(r, QuantizedLinear) else None for r in readers}
    format = formats.pop() if len(formats) == 1 else None
    if format is None:
        return None
    values, scales = layer_norm_modulate_quantized(x, shift, scale, format)
    return QuantizedRows(values, scales, x.dtype)
