"""How the Triton kernels that gather and spread pixels are launched."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..contract import layout_of
from .availability import triton_why_not
from .launch import cdiv, next_power_of_two

# A thread holds 8 elements, one 16-byte vector of half precision.
_ELEMENTS_PER_TILE = 2048
_ELEMENTS_PER_WARP = 256


def why_not(video: Tensor, added: Tensor | None = None) -> str | None:
    """Return why the kernels cannot serve a call, or None."""
    if video.numel() == 0:
        return "the tensor is empty"
    return triton_why_not(video) if added is None else triton_why_not(video, added)


@dataclass(frozen=True, kw_only=True, slots=True)
class Problem:
    """One call: a small video's sizes, and how blocks of pixels and groups of channels overlap.

    ``joined`` neighbouring unshuffled channels (pixels of a block) always lie in one group. There
    are ``runs`` of so many in a block, and ``terms`` in a group.
    """

    rows: int
    width: int
    small_channels: int
    large_channels: int
    scale: tuple[int, int, int]
    channels_last: bool

    @property
    def pixels(self) -> int:
        """Of a block."""
        return math.prod(self.scale)

    @property
    def group(self) -> int:
        """Unshuffled channels that belong to one of the small video."""
        return self.large_channels * self.pixels // self.small_channels

    @property
    def joined(self) -> int:
        """Of these two the greatest common divisor."""
        return math.gcd(self.pixels, self.group)

    @property
    def runs(self) -> int:
        """Of joined pixels in a block."""
        return self.pixels // self.joined

    @property
    def terms(self) -> int:
        """Runs in a group."""
        return self.group // self.joined


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """One program: a tile of ``block_w`` pixels of a row by ``block_c`` channels.

    ``whole_blocks``: the pixels are blocks of the large video, and the channels are its, neighbours
    in memory; else they are those of the result, and what is read is found element by element.
    """

    whole_blocks: bool
    block_w: int
    block_c: int
    rows: int
    width_tiles: int
    channel_tiles: int
    num_warps: int


def problem_of(large: Tensor, small: Tensor, scale: Sequence[int]) -> Problem:
    """Describe a call by its two videos."""
    batch, channels, frames, height, width = small.shape
    return Problem(
        rows=batch * frames * height,
        width=width,
        small_channels=channels,
        large_channels=large.shape[1],
        scale=(scale[0], scale[1], scale[2]),
        channels_last=torch.channels_last_3d in (layout_of(large), layout_of(small)),
    )


def pick(problem: Problem, *, spread: bool) -> Config:
    """Choose the launch: by whole blocks where they come apart in powers of two."""
    terms = problem.terms
    whole_blocks = (
        problem.channels_last
        and problem.runs <= 2
        and terms & (terms - 1) == 0
        and (problem.runs == 1 or terms == 1)
        and terms <= _ELEMENTS_PER_TILE
    )
    rows, width, channels = problem.rows, problem.width, problem.small_channels
    if whole_blocks:
        channels = problem.large_channels
    elif spread:
        rows *= problem.scale[0] * problem.scale[1]
        width *= problem.scale[2]
        channels = problem.large_channels
    if problem.channels_last:
        block_c = min(next_power_of_two(channels), _ELEMENTS_PER_TILE)
        block_w = min(next_power_of_two(width), _ELEMENTS_PER_TILE // block_c)
    else:
        block_w = min(next_power_of_two(width), _ELEMENTS_PER_TILE)
        block_c = min(next_power_of_two(channels), _ELEMENTS_PER_TILE // block_w)
    return Config(
        whole_blocks=whole_blocks,
        block_w=block_w,
        block_c=block_c,
        rows=rows,
        width_tiles=cdiv(width, block_w),
        channel_tiles=cdiv(channels, block_c),
        num_warps=max(1, block_w * block_c // _ELEMENTS_PER_WARP),
    )
