"""Gathering and spreading pixels in C++ for the CPU: csrc/cpu/pixel_shuffle.h has the formulas.

A video that is neither contiguous nor channels-last is copied, and so is an `added` that lies
otherwise than the result.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .. import native
from ..contract import layout_of
from .pixel_shuffle import new_video, size_of_large, size_of_small

VERIFIED = "CPU: x86-64 scalar, AVX2 and AVX-512, 2026-11"


def why_not(video: Tensor, added: Tensor | None = None) -> str | None:
    """Say why the kernels cannot serve a call, or return None."""
    if video.dtype not in native.CPU_DTYPES:
        return native.not_a_cpu_dtype("x", video)
    if added is not None and added.dtype != video.dtype:
        return f"added is {added.dtype}, x is {video.dtype}"
    return native.why_no_cpu()


def gather(
    large: Tensor, small_channels: int, scale: Sequence[int], factor: float, added: Tensor | None
) -> Tensor:
    """Return `factor` times the sum of every group, plus `added`."""
    from opensora_fast import _C

    large = large.contiguous(memory_format=layout_of(large))
    small = new_video(large, small_channels, size_of_small(large.shape[2:], scale))
    added = _laid_as(large, added)
    _C.pixel_gather_cpu(**_arguments(large, added, small, large, small, scale, factor))
    return small


def spread(
    small: Tensor, large_channels: int, scale: Sequence[int], factor: float, added: Tensor | None
) -> Tensor:
    """Return `factor` times the small video at all places of every group, plus `added`."""
    from opensora_fast import _C

    small = small.contiguous(memory_format=layout_of(small))
    large = new_video(small, large_channels, size_of_large(small.shape[2:], scale))
    added = _laid_as(small, added)
    _C.pixel_spread_cpu(**_arguments(small, added, large, large, small, scale, factor))
    return large


def _laid_as(source: Tensor, added: Tensor | None) -> Tensor | None:
    return None if added is None else added.contiguous(memory_format=layout_of(source))


def _arguments(
    source: Tensor,
    added: Tensor | None,
    result: Tensor,
    large: Tensor,
    small: Tensor,
    scale: Sequence[int],
    factor: float,
) -> dict[str, Any]:
    frames, height, width = small.shape[2:]
    return {
        "source": source.data_ptr(),
        "added": 0 if added is None else added.data_ptr(),
        "result": result.data_ptr(),
        "batch": small.shape[0],
        "large_channels": large.shape[1],
        "small_channels": small.shape[1],
        "size": (frames, height, width),
        "scale": (scale[0], scale[1], scale[2]),
        "factor": factor,
        "channels_last": layout_of(source) is torch.channels_last_3d,
        "dtype": native.DTYPE_CODES[source.dtype],
    }
