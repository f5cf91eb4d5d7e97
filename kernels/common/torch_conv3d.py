"""Convolutions between zeros through torch: what its libraries leave undone."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

aten = torch.ops.aten


def seen_taps(weight: Tensor, frames: int) -> Tensor:
    """Of a kernel's temporal taps those that meet a video: for an image the middle one.

    oneDNN multiplies the zeros around a single frame, too. A kernel of an even number of taps is
    returned whole.

    Args:
        weight: [C_out, C_in, kT, kH, kW].
        frames: of the video.

    Returns:
        The weight itself, or a view of its middle tap.
    """
    taps = weight.shape[2]
    if frames > 1 or taps == 1 or taps % 2 == 0:
        return weight
    return weight[:, :, taps // 2 : taps // 2 + 1]


def of_all_taps(dseen: Tensor, weight: Tensor) -> Tensor:
    """The gradient of a weight from that of its seen taps: zero for those that met only zeros."""
    around = (weight.shape[2] - dseen.shape[2]) // 2
    return F.pad(dseen, (0, 0, 0, 0, around, around)) if around else dseen


def depthwise(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Convolve each channel of x [B, C, T, H, W] with its kernel of weight [C, 1, kT, kH, kW]."""
    seen = seen_taps(weight, x.shape[2])
    return F.conv3d(x, seen, bias, 1, _reach(seen), 1, weight.shape[0])


def depthwise_gradients(grad: Tensor, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """The gradients of x and weight, every k odd.

    That of x is the convolution of the gradient with the kernel turned round: oneDNN's own way to
    it takes several times as long.
    """
    seen = seen_taps(weight, x.shape[2])
    dx = depthwise(grad, seen.flip(2, 3, 4))
    geometry = ([1, 1, 1], _reach(seen), [1, 1, 1], False, [0, 0, 0], weight.shape[0])
    mask = [False, True, False]
    dseen: Tensor = aten.convolution_backward(grad, x, seen, None, *geometry, mask)[1]
    return dx, of_all_taps(dseen, weight)


class Depthwise(NamedTuple):
    """A way to compute depthwise convolutions: as `depthwise` and `depthwise_gradients` do."""

    convolve: Callable[[Tensor, Tensor, Tensor | None], Tensor]
    gradients: Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]


LIBRARY = Depthwise(depthwise, depthwise_gradients)


def _reach(weight: Tensor) -> list[int]:
    """Zeros on both sides of T, H and W."""
    return [size // 2 for size in weight.shape[2:]]
