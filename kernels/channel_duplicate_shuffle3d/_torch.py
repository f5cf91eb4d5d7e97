"""channel_duplicate_shuffle3d by torch: one copy or one sum into a view of the output."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from ..common import pixel_shuffle

VERIFIED = "CPU: x86-64 AVX-512, torch 2.13, 2026-11; never on a GPU"


def why_not(x: Tensor, out_channels: int, scale: Sequence[int], added: Tensor | None) -> str | None:
    """Say why the row cannot serve this call, or return None."""
    return pixel_shuffle.why_not_box(x, out_channels, x.shape[1], scale)


def backward_why_not(grad: Tensor, channels: int, scale: Sequence[int]) -> str | None:
    """Say why the row cannot serve this call, or return None."""
    return pixel_shuffle.why_not_box(grad, grad.shape[1], channels, scale)


def forward(x: Tensor, out_channels: int, scale: Sequence[int], added: Tensor | None) -> Tensor:
    """Return the copies, plus `added`."""
    return pixel_shuffle.spread(x, out_channels, scale, 1, added)


def backward(grad: Tensor, channels: int, scale: Sequence[int]) -> Tensor:
    """Return the gradient of x."""
    return pixel_shuffle.gather(grad, channels, scale, 1, None)
