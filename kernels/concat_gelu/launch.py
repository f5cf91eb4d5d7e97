"""What the Triton kernels of concat_gelu can run, and how they are launched."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ..common.availability import triton_why_not
from ..common.launch import cdiv, next_power_of_two

_MAX_BLOCK_W = 1024
_ELEMENTS_PER_TILE = 2048


def why_not(a: Tensor, x: Tensor) -> str | None:
    """Return why the forward kernel cannot serve a call, or None."""
    return triton_why_not(a, x)


def backward_why_not(grad: Tensor, x: Tensor) -> str | None:
    """Return why the backward kernel cannot serve a call, or None."""
    return triton_why_not(grad, x)


@dataclass(frozen=True, kw_only=True, slots=True)
class Problem:
    """Sizes of one call: a is [rows, first], x is [rows, second]."""

    rows: int
    first: int
    second: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """One program: one tile of rows, in columns that are all of a or all of x."""

    block_r: int
    block_w: int
    num_warps: int
    first_tiles: int
    second_tiles: int


def pick(problem: Problem) -> Config:
    """Choose the launch: a thread holds 16 elements, two 16-byte loads of half precision."""
    widest = next_power_of_two(max(problem.first, problem.second))
    block_w = min(widest, _MAX_BLOCK_W)
    block_r = min(_ELEMENTS_PER_TILE // block_w, next_power_of_two(problem.rows))
    return Config(
        block_r=block_r,
        block_w=block_w,
        num_warps=max(1, block_r * block_w // 512),
        first_tiles=cdiv(problem.first, block_w),
        second_tiles=cdiv(problem.second, block_w),
    )
