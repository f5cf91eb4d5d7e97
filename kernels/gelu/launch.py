"""What the Triton kernels of gelu can run, and how they are launched."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..common.availability import triton_why_not
from ..common.launch import cdiv, next_power_of_two

_ELEMENTS_PER_TILE = 2048


def why_not(x: Tensor) -> str | None:
    """Return why the forward kernel cannot serve a call, or None."""
    return triton_why_not(x)


def backward_why_not(grad: Tensor, x: Tensor) -> str | None:
    """Return why the backward kernel cannot serve a call, or None."""
    return triton_why_not(grad, x)


@dataclass(frozen=True, kw_only=True, slots=True)
class Problem:
    """Sizes of one call, as `as_rows` makes them."""

    rows: int
    width: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """One program: one tile of rows and columns."""

    block_r: int
    block_w: int
    num_warps: int


def pick(problem: Problem) -> Config:
    """Choose the launch: a thread holds 16 elements, two 16-byte loads of half precision."""
    block_w = min(next_power_of_two(problem.width), _ELEMENTS_PER_TILE)
    block_r = min(_ELEMENTS_PER_TILE // block_w, next_power_of_two(problem.rows))
    return Config(block_r=block_r, block_w=block_w, num_warps=max(1, block_r * block_w // 512))


def num_tiles(problem: Problem, config: Config) -> int:
    """Return the number of tiles, and so of programs."""
    return cdiv(problem.rows, config.block_r) * cdiv(problem.width, config.block_w)


def as_rows(x: Tensor, layout: torch.memory_format, *, whole: bool) -> Tensor:
    """Return x as a matrix [rows, width] whose elements follow each other as the output's do.

    One row where x lies in memory as the output does (`whole`). Else a row per last axis of the
    output's layout; axes in front of it that do not fit one stride are copied.
    """
    if layout is torch.channels_last_3d:
        x = x.permute(0, 2, 3, 4, 1)
    width = x.numel() if whole else x.shape[-1]
    return x.reshape(x.numel() // max(1, width), width)


def in_layout(layout: torch.memory_format, *tensors: Tensor) -> bool:
    """Whether all tensors lie densely in memory as the output does."""
    return all(tensor.is_contiguous(memory_format=layout) for tensor in tensors)
