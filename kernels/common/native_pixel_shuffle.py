"""Gathering and spreading pixels in C++ for the CPU and in CUDA C++: which calls, _C's arguments.

csrc/cpu/pixel_shuffle.h has the formulas. A video that is neither contiguous nor channels-last is
copied, and so is an `added` that lies otherwise than the result.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from .. import native
from ..contract import layout_of
from .pixel_shuffle import new_video, size_of_large, size_of_small

VERIFIED = "CPU: x86-64 scalar, AVX2 and AVX-512, 2026-11"

CUDA_DTYPES = (torch.float32, torch.bfloat16, torch.float16)
_MAX_VECTORS = 2**31  # of sixteen bytes; a thread takes one or more of each tensor


def why_not(video: Tensor, added: Tensor | None = None) -> str | None:
    """Say why the kernels for the CPU cannot serve a call, or return None."""
    if video.dtype not in native.CPU_DTYPES:
        return native.not_a_cpu_dtype("x", video)
    if added is not None and added.dtype != video.dtype:
        return f"added is {added.dtype}, x is {video.dtype}"
    return native.why_no_cpu()


def why_not_cuda(
    video: Tensor,
    large_channels: int,
    small_channels: int,
    scale: Sequence[int],
    added: Tensor | None = None,
) -> str | None:
    """Say why the CUDA kernels cannot serve a call, or return None."""
    if video.dtype not in CUDA_DTYPES:
        return f"x is {video.dtype}, the kernel takes {', '.join(map(str, CUDA_DTYPES))}"
    if added is not None and added.dtype != video.dtype:
        return f"added is {added.dtype}, x is {video.dtype}"
    if layout_of(video) is not torch.channels_last_3d:
        return "x is not channels-last"
    if scale[0] * scale[1] * scale[2] not in (4, 8):
        return f"blocks of {list(scale)} pixels: the kernel takes four or eight"
    vector = 16 // video.element_size()
    if large_channels % vector:
        return f"{large_channels} channels of blocks are no multiple of {vector}"
    if small_channels not in (large_channels, 2 * large_channels):
        return (
            f"{small_channels} channels for {large_channels} of blocks: the kernel takes as many "
            "or twice as many"
        )
    if video.numel() // vector >= _MAX_VECTORS:
        return f"{video.numel()} elements are not fewer than {vector * _MAX_VECTORS}"
    return native.why_no_cuda()


def gather(
    kernel: Callable[..., None],
    large: Tensor,
    small_channels: int,
    scale: Sequence[int],
    factor: float,
    added: Tensor | None,
) -> Tensor:
    """Return `factor` times the sum of every group, plus `added`, by one of _C's functions."""
    large = _aligned(large.contiguous(memory_format=layout_of(large)))
    small = new_video(large, small_channels, size_of_small(large.shape[2:], scale))
    added = _laid_as(large, added)
    _run(kernel, False, (large, added, small), large, small, scale, factor)
    return small


def spread(
    kernel: Callable[..., None],
    small: Tensor,
    large_channels: int,
    scale: Sequence[int],
    factor: float,
    added: Tensor | None,
) -> Tensor:
    """Return `factor` times the small video at all places of a group, plus `added`, likewise."""
    small = _aligned(small.contiguous(memory_format=layout_of(small)))
    large = new_video(small, large_channels, size_of_large(small.shape[2:], scale))
    added = _laid_as(small, added)
    _run(kernel, True, (small, added, large), large, small, scale, factor)
    return large


def on_stream(kernel: Callable[..., None]) -> Callable[..., None]:
    """Bind a CUDA function of the extension to the current stream of the current device."""
    return functools.partial(kernel, stream=torch.cuda.current_stream().cuda_stream)


def _laid_as(source: Tensor, added: Tensor | None) -> Tensor | None:
    return None if added is None else _aligned(added.contiguous(memory_format=layout_of(source)))


def _aligned(video: Tensor) -> Tensor:
    """The video, or a copy of one that starts where vectors of sixteen bytes do not."""
    return video.clone() if video.is_cuda and video.data_ptr() % 16 else video


def _run(
    kernel: Callable[..., None],
    spreads: bool,
    videos: tuple[Tensor, Tensor | None, Tensor],
    large: Tensor,
    small: Tensor,
    scale: Sequence[int],
    factor: float,
) -> None:
    source = videos[0]
    kernel(
        spread=spreads,
        videos=tuple(0 if video is None else video.data_ptr() for video in videos),
        sizes=(small.shape[0], large.shape[1], *small.shape[1:]),
        scale=(scale[0], scale[1], scale[2]),
        factor=factor,
        channels_last=layout_of(source) is torch.channels_last_3d,
        dtype=native.DTYPE_CODES[source.dtype],
    )
