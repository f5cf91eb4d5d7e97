"""pixel_unshuffle_average3d by torch: sums of views of x, a pixel of all blocks at a time."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from ..common import pixel_shuffle

VERIFIED = "CPU: x86-64 AVX-512, torch 2.13, 2026-11; never on a GPU"


def why_not(x: Tensor, out_channels: int, scale: Sequence[int], added: Tensor | None) -> str | None:
    """Say why the row cannot serve this call, or return None."""
    return pixel_shuffle.why_not_box(x, x.shape[1], out_channels, scale)


def backward_why_not(grad: Tensor, channels: int, scale: Sequence[int]) -> str | None:
    """Say why the row cannot serve this call, or return None."""
    return pixel_shuffle.why_not_box(grad, channels, grad.shape[1], scale)


def forward(x: Tensor, out_channels: int, scale: Sequence[int], added: Tensor | None) -> Tensor:
    """Return the means, plus `added`."""
    group = x.shape[1] * scale[0] * scale[1] * scale[2] // out_channels
    return pixel_shuffle.gather(x, out_channels, scale, 1 / group, added)


def backward(grad: Tensor, channels: int, scale: Sequence[int]) -> Tensor:
    """Return the gradient of x."""
    group = channels * scale[0] * scale[1] * scale[2] // grad.shape[1]
    return pixel_shuffle.spread(grad, channels, scale, 1 / group, None)
