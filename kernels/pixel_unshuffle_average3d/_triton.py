"""pixel_unshuffle_average3d in Triton: see common/_triton_pixel_shuffle.py for the kernels."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from ..common._triton_pixel_shuffle import plan_gather, plan_spread
from ..common.pixel_shuffle import new_video, size_of_large, size_of_small


def forward(x: Tensor, out_channels: int, scale: Sequence[int], added: Tensor | None) -> Tensor:
    """Return the means, plus `added`."""
    y = new_video(x, out_channels, size_of_small(x.shape[2:], scale))
    factor = out_channels / (x.shape[1] * scale[0] * scale[1] * scale[2])
    plan_gather(x, y, added, scale, factor).run()
    return y


def backward(grad: Tensor, channels: int, scale: Sequence[int]) -> Tensor:
    """Return the gradient of x."""
    dx = new_video(grad, channels, size_of_large(grad.shape[2:], scale))
    factor = grad.shape[1] / (channels * scale[0] * scale[1] * scale[2])
    plan_spread(grad, dx, None, scale, factor).run()
    return dx
