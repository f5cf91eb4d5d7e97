"""pixel_unshuffle_average3d in CUDA C++: csrc/cuda/pixel_shuffle.h states what it takes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..common import native_pixel_shuffle as native


def why_not(x: Tensor, out_channels: int, scale: Sequence[int], added: Tensor | None) -> str | None:
    """Say why the kernel cannot serve this call, or return None."""
    return native.why_not_cuda(x, x.shape[1], out_channels, scale, added)


def backward_why_not(grad: Tensor, channels: int, scale: Sequence[int]) -> str | None:
    """Say why the kernel cannot serve this call, or return None."""
    return native.why_not_cuda(grad, channels, grad.shape[1], scale)


def forward(x: Tensor, out_channels: int, scale: Sequence[int], added: Tensor | None) -> Tensor:
    """Return the means, plus `added`."""
    from opensora_fast import _C

    group = x.shape[1] * scale[0] * scale[1] * scale[2] // out_channels
    with torch.cuda.device(x.device):
        kernel = native.on_stream(_C.pixel_shuffle_cuda)
        return native.gather(kernel, x, out_channels, scale, 1 / group, added)


def backward(grad: Tensor, channels: int, scale: Sequence[int]) -> Tensor:
    """Return the gradient of x."""
    from opensora_fast import _C

    group = channels * scale[0] * scale[1] * scale[2] // grad.shape[1]
    with torch.cuda.device(grad.device):
        kernel = native.on_stream(_C.pixel_shuffle_cuda)
        return native.spread(kernel, grad, channels, scale, 1 / group, None)
