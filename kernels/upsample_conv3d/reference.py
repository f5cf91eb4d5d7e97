"""The definition of upsample_conv3d: the two definitions that it joins, and their gradients."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from ..causal_conv3d import reference as conv
from ..nearest_upsample3d import reference as upsample

STRIDE = (1, 1, 1)
PAD_MODE = "replicate"


def forward(x: Tensor, weight: Tensor, bias: Tensor | None, scale: Sequence[int]) -> Tensor:
    """Return the convolution of the upsampled x."""
    return conv.forward(upsample.forward(x, scale), weight, bias, STRIDE, PAD_MODE)


def backward(
    grad: Tensor, x: Tensor, weight: Tensor, scale: Sequence[int], needs: Sequence[bool]
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of x, weight and bias; an empty tensor for one that is not needed."""
    large = upsample.forward(x, scale)
    dlarge, dweight, dbias = conv.backward(grad, large, weight, STRIDE, PAD_MODE, needs)
    return upsample.backward(dlarge, scale) if needs[0] else dlarge, dweight, dbias


def output_size(size: Sequence[int], scale: Sequence[int]) -> tuple[int, int, int]:
    """T', H', W' of the output of an input of T, H, W."""
    return 1 + scale[0] * (size[0] - 1), scale[1] * size[1], scale[2] * size[2]
