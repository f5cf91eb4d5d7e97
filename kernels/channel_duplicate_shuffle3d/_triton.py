"""channel_duplicate_shuffle3d in Triton: see common/_triton_pixel_shuffle.py for the kernels."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from ..common._triton_pixel_shuffle import plan_gather, plan_spread
from ..common.pixel_shuffle import new_video, size_of_large, size_of_small


def forward(x: Tensor, out_channels: int, scale: Sequence[int], added: Tensor | None) -> Tensor:
    """Return the copies, plus `added`."""
    y = new_video(x, out_channels, size_of_large(x.shape[2:], scale))
    plan_spread(x, y, added, scale, 1.0).run()
    return y


def backward(grad: Tensor, channels: int, scale: Sequence[int]) -> Tensor:
    """Return the gradient of x."""
    dx = new_video(grad, channels, size_of_small(grad.shape[2:], scale))
    plan_gather(grad, dx, None, scale, 1.0).run()
    return dx
