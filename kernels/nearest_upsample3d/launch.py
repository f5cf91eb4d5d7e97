"""What the Triton kernels of nearest_upsample3d can run, and how they are launched."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..common.availability import triton_why_not
from ..common.launch import cdiv, next_power_of_two

MAX_PLANE = 2**31  # rows of a plane are counted in 32 bits
_ELEMENTS_PER_TILE = 2048


def why_not(x: Tensor, scale: Sequence[int]) -> str | None:
    """Return why a kernel cannot serve a call, or None; the same in both directions."""
    if x.shape[3] * x.shape[4] >= MAX_PLANE:
        return f"frames of {x.shape[3]} x {x.shape[4]} pixels have 2^31 or more"
    return triton_why_not(x)


@dataclass(frozen=True, kw_only=True, slots=True)
class Problem:
    """One call, as the kernels see it: planes of rows of neighbours in memory.

    Channels-last, a plane is a frame, a row is a pixel and its neighbours are channels. Otherwise a
    plane is a frame of one channel, a row is a row of pixels. In both, ``rows`` and ``width``
    count those of the smaller video.
    """

    channels_last: bool
    planes: int
    rows: int
    width: int
    scale: tuple[int, int, int]


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """One program: one tile of a plane; ``block_w`` counts elements of the larger video."""

    block_r: int
    block_w: int
    num_warps: int
    row_tiles: int
    column_tiles: int


def problem_of(small: Tensor, scale: Sequence[int], layout: torch.memory_format) -> Problem:
    """Describe a call by its smaller video [B, C, T, H, W]."""
    batch, channels, frames, height, width = small.shape
    factors = (scale[0], scale[1], scale[2])
    if layout is torch.channels_last_3d:
        return Problem(
            channels_last=True,
            planes=batch * frames,
            rows=height * width,
            width=channels,
            scale=factors,
        )
    return Problem(
        channels_last=False,
        planes=batch * channels * frames,
        rows=height,
        width=width,
        scale=factors,
    )


def pick(problem: Problem, *, backward: bool) -> Config:
    """Choose the launch: a thread holds 8 elements, one 16-byte vector of half precision.

    Forwards a tile is a part of the larger video's rows, backwards of the smaller's.
    """
    repeats = 1 if problem.channels_last or backward else problem.scale[2]
    width = problem.width * repeats
    block_w = min(next_power_of_two(width), _ELEMENTS_PER_TILE)
    block_r = min(_ELEMENTS_PER_TILE // block_w, next_power_of_two(problem.rows))
    return Config(
        block_r=block_r,
        block_w=block_w,
        num_warps=max(1, block_r * block_w // 256),
        row_tiles=cdiv(problem.rows, block_r),
        column_tiles=cdiv(width, block_w),
    )


def strides_of(x: Tensor, layout: torch.memory_format) -> dict[str, int]:
    """Name the strides by what they step over: b, t, and c, h, w of rows and within a row.

    ``p`` steps over channels where each has planes of its own; ``h`` and ``w`` over rows and, where
    a row is a pixel, over pixels; ``i`` over the neighbours in a row.
    """
    by_batch, by_channel, by_frame, by_row, by_column = x.stride()
    if layout is torch.channels_last_3d:
        return {"b": by_batch, "p": 0, "t": by_frame, "h": by_row, "w": by_column, "i": by_channel}
    return {"b": by_batch, "p": by_channel, "t": by_frame, "h": by_row, "w": 0, "i": by_column}
