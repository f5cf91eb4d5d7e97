"""The definition of a depthwise 3-D convolution between zeros, and its gradients."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor


def convolve(x: Tensor, weight: Tensor) -> Tensor:
    """Return y[b,c,p] = sum over taps of weight[c,0,tap] * x[b,c,p + tap], with zeros around x.

    x: [B, C, T, H, W]; weight: [C, 1, kT, kH, kW], every k odd.
    """
    y = torch.zeros_like(x)
    for (t, h, w), window in _windows(x, weight):
        y += weight[:, 0, t, h, w].view(-1, 1, 1, 1) * window
    return y


def gradients(grad: Tensor, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Return the gradients of x and weight."""
    dweight = torch.empty_like(weight)
    for (t, h, w), window in _windows(x, weight):
        dweight[:, 0, t, h, w] = (grad * window).sum((0, 2, 3, 4))
    # An odd kernel reaches as far to both sides: what x gave with a tap comes back with its mirror.
    return convolve(grad, weight.flip(2, 3, 4)), dweight


def _windows(x: Tensor, weight: Tensor) -> Iterator[tuple[tuple[int, int, int], Tensor]]:
    """Yield every tap with the view of x that it meets."""
    depth, height, width = weight.shape[2:]
    frames, rows, columns = x.shape[2:]
    reach = (width // 2, width // 2, height // 2, height // 2, depth // 2, depth // 2)
    padded = torch.nn.functional.pad(x, reach)
    for t in range(depth):
        for h in range(height):
            for w in range(width):
                yield (t, h, w), padded[:, :, t : t + frames, h : h + rows, w : w + columns]
