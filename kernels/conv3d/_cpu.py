"""conv3d in C++ for the CPU: csrc/cpu/conv3d/conv3d.h states algorithms and accuracy.

Neither the activated nor the enlarged video nor the shortcut ever exists as a whole.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from ..common import conv3d
from .reference import output_size

VERIFIED = conv3d.VERIFIED


def why_not(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    scale: Sequence[int],
    silu: bool,
    shortcut: bool,
    pad_rows: bool,
) -> str | None:
    """Say why the kernel cannot serve this call, or return None."""
    if not pad_rows and tuple(scale) != (1, 1, 1):
        return "the kernel does not enlarge a slab of rows without zeros above and below"
    if tuple(scale) not in ((1, 1, 1), (1, 2, 2), (2, 2, 2)):
        return f"the kernel serves the scales (1, 2, 2) and (2, 2, 2), not {tuple(scale)}"
    if tuple(scale) != (1, 1, 1) and tuple(weight.shape[2:]) != (3, 3, 3):
        kernel = list(weight.shape[2:])
        return f"the kernel folds an upsampling into 3x3x3 convolutions, weight has {kernel}"
    return conv3d.why_not(x, weight)


def forward(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    scale: Sequence[int],
    silu: bool,
    shortcut: bool,
    pad_rows: bool,
) -> Tensor:
    """Return the convolution."""
    size = output_size(x.shape[2:], weight.shape[2:], stride, scale, pad_rows)
    y, _ = conv3d.convolve(
        x,
        weight,
        bias,
        size,
        stride=stride,
        scale=scale,
        pad_mode="centered" if pad_rows else "centered rows",
        silu=silu,
        shortcut=shortcut,
    )
    return y
