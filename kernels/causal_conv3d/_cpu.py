"""causal_conv3d in C++ for the CPU: csrc/cpu/conv3d/conv3d.h states algorithms and accuracy."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from ..common import conv3d
from .reference import output_shape

VERIFIED = conv3d.VERIFIED


def why_not(x: Tensor, weight: Tensor, *_: object) -> str | None:
    """Say why the kernel cannot serve this call, or return None."""
    return conv3d.why_not(x, weight)


def forward(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    pad_mode: str,
    gather: bool,
) -> tuple[Tensor, Tensor]:
    """Return the convolution, and the moments of its channels."""
    size = output_shape(x.shape, weight.shape, stride, pad_mode)[2:]
    return conv3d.convolve(x, weight, bias, size, stride=stride, pad_mode=pad_mode, gather=gather)
