"""What the Triton kernel of quantize_rows can run, and how it is launched."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ..common.availability import capability, triton_why_not
from ..common.launch import cdiv, next_power_of_two
from .formats import MIN_FP8_CAPABILITY

MAX_WIDTH = 16384  # a row lives in the registers of one program


def why_not(x: Tensor, format: str) -> str | None:
    """Return why the kernel cannot serve a call, or None."""
    if x.shape[-1] > MAX_WIDTH:
        return f"rows have {x.shape[-1]} numbers, at most {MAX_WIDTH} fit"
    return triton_why_not(x) or format_why_not(x, format)


def format_why_not(x: Tensor, format: str) -> str | None:
    """Return why this tensor's device cannot round to a format, or None."""
    found = capability(x.device)
    if format == "fp8" and found < MIN_FP8_CAPABILITY:
        needed = MIN_FP8_CAPABILITY / 10
        return f"fp8 needs compute capability {needed}, this device has {found / 10}"
    return None


@dataclass(frozen=True, kw_only=True, slots=True)
class Problem:
    """Sizes of one call: x is [rows, width]."""

    rows: int
    width: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """One program: one tile of ``block_r`` whole rows."""

    block_r: int
    block_w: int
    num_warps: int
    row_tiles: int


def pick(problem: Problem) -> Config:
    """Choose the launch: a thread holds 16 numbers, 32 in the widest rows."""
    block_w = next_power_of_two(problem.width)
    block_r = min(max(1, 2048 // block_w), next_power_of_two(problem.rows))
    return Config(
        block_r=block_r,
        block_w=block_w,
        num_warps=min(max(1, block_r * block_w // 512), 16),
        row_tiles=cdiv(problem.rows, block_r),
    )
