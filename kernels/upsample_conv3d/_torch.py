"""upsample_conv3d through the two ops that it joins, whichever backends serve them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from ..causal_conv3d import op as conv
from ..nearest_upsample3d import op as upsample
from .reference import PAD_MODE, STRIDE

VERIFIED = "as nearest_upsample3d and causal_conv3d"


def why_not(x: Tensor, weight: Tensor, bias: Tensor | None, scale: Sequence[int]) -> str | None:
    """Empty tensors are left to the reference."""
    return "the tensor is empty" if x.numel() == 0 else None


def backward_why_not(grad: Tensor, *_: Any) -> str | None:
    """Empty tensors are left to the reference."""
    return "the tensor is empty" if grad.numel() == 0 else None


def forward(x: Tensor, weight: Tensor, bias: Tensor | None, scale: Sequence[int]) -> Tensor:
    """Return the convolution of the upsampled x."""
    large = upsample.FORWARD(x, list(scale))
    y: Tensor = conv.FORWARD(large, weight, bias, list(STRIDE), PAD_MODE, False)[0]
    return y


def backward(
    grad: Tensor, x: Tensor, weight: Tensor, scale: Sequence[int], needs: Sequence[bool]
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of x, weight and bias; an empty tensor for one that is not needed."""
    large = upsample.FORWARD(x, list(scale))
    dlarge, dweight, dbias = conv.BACKWARD(grad, large, weight, list(STRIDE), PAD_MODE, list(needs))
    dx = upsample.BACKWARD(dlarge, list(scale)) if needs[0] else dlarge
    return dx, dweight, dbias
