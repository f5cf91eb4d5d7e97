"""upsample_conv3d in C++ for the CPU: the upsampled video never exists.

Every doubled axis takes 3 products for 2 outputs instead of 6, exactly: the formula stands in
csrc/cpu/conv3d/upsample-inl.h.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from ..common import conv3d
from .reference import output_size

VERIFIED = conv3d.VERIFIED


def why_not(
    x: Tensor, weight: Tensor, bias: Tensor | None, scale: Sequence[int], gather: bool
) -> str | None:
    """Say why the kernel cannot serve this call, or return None."""
    if tuple(weight.shape[2:]) != (3, 3, 3):
        return f"the kernel serves 3x3x3 convolutions, weight has {list(weight.shape[2:])}"
    if tuple(scale) not in ((1, 2, 2), (2, 2, 2)):
        return f"the kernel serves the scales (1, 2, 2) and (2, 2, 2), not {tuple(scale)}"
    return conv3d.why_not(x, weight)


def forward(
    x: Tensor, weight: Tensor, bias: Tensor | None, scale: Sequence[int], gather: bool
) -> tuple[Tensor, Tensor]:
    """Return the convolution of the upsampled x, and the moments of its channels."""
    size = output_size(x.shape[2:], scale)
    return conv3d.convolve(x, weight, bias, size, scale=scale, gather=gather)
