"""pixel_unshuffle_average3d in C++ for the CPU: see common/native_pixel_shuffle.py."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from ..common import native_pixel_shuffle as native

VERIFIED = native.VERIFIED


def why_not(x: Tensor, out_channels: int, scale: Sequence[int], added: Tensor | None) -> str | None:
    """Say why the kernel cannot serve this call, or return None."""
    return native.why_not(x, added)


def backward_why_not(grad: Tensor, channels: int, scale: Sequence[int]) -> str | None:
    """Say why the kernel cannot serve this call, or return None."""
    return native.why_not(grad)


def forward(x: Tensor, out_channels: int, scale: Sequence[int], added: Tensor | None) -> Tensor:
    """Return the means, plus `added`."""
    from opensora_fast import _C

    group = x.shape[1] * scale[0] * scale[1] * scale[2] // out_channels
    return native.gather(_C.pixel_shuffle_cpu, x, out_channels, scale, 1 / group, added)


def backward(grad: Tensor, channels: int, scale: Sequence[int]) -> Tensor:
    """Return the gradient of x."""
    from opensora_fast import _C

    group = channels * scale[0] * scale[1] * scale[2] // grad.shape[1]
    return native.spread(_C.pixel_shuffle_cpu, grad, channels, scale, 1 / group, None)
