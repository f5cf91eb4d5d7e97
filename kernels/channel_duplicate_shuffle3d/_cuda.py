"""channel_duplicate_shuffle3d in CUDA C++: csrc/cuda/pixel_shuffle.h states what it takes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..common import native_pixel_shuffle as native


def why_not(x: Tensor, out_channels: int, scale: Sequence[int], added: Tensor | None) -> str | None:
    """Say why the kernel cannot serve this call, or return None."""
    return native.why_not_cuda(x, out_channels, x.shape[1], scale, added)


def backward_why_not(grad: Tensor, channels: int, scale: Sequence[int]) -> str | None:
    """Say why the kernel cannot serve this call, or return None."""
    return native.why_not_cuda(grad, grad.shape[1], channels, scale)


def forward(x: Tensor, out_channels: int, scale: Sequence[int], added: Tensor | None) -> Tensor:
    """Return the copies, plus `added`."""
    from opensora_fast import _C

    with torch.cuda.device(x.device):
        kernel = native.on_stream(_C.pixel_shuffle_cuda)
        return native.spread(kernel, x, out_channels, scale, 1, added)


def backward(grad: Tensor, channels: int, scale: Sequence[int]) -> Tensor:
    """Return the gradient of x."""
    from opensora_fast import _C

    with torch.cuda.device(grad.device):
        kernel = native.on_stream(_C.pixel_shuffle_cuda)
        return native.gather(kernel, grad, channels, scale, 1, None)
