"""What the Triton kernels of qk_norm_rope can run, and how they are launched."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ..common.availability import triton_why_not
from ..common.launch import cdiv, next_power_of_two, share_tiles

MAX_HEAD_DIM = 256  # whole heads of q and k lie in the registers of one program
MAX_ROWS = 2**30  # rows of one batch item are counted in 32 bits


def why_not(
    q: Tensor,
    k: Tensor,
    q_scale: Tensor,
    k_scale: Tensor,
    cos: Tensor,
    sin: Tensor,
    layout: str,
    eps: float,
) -> str | None:
    """Return why the forward kernel cannot serve a call, or None."""
    if q.shape[3] > MAX_HEAD_DIM:
        return f"heads have {q.shape[3]} channels, at most {MAX_HEAD_DIM} fit"
    if q.shape[1] * q.shape[2] > MAX_ROWS:
        return f"{q.shape[1]} tokens x {q.shape[2]} heads exceed {MAX_ROWS} rows"
    return triton_why_not(q, k, q_scale, k_scale, cos, sin)


def backward_why_not(grad_q: Tensor, grad_k: Tensor, *forward_arguments: Any) -> str | None:
    """Return why the backward kernel cannot serve a call, or None."""
    return why_not(*forward_arguments) or triton_why_not(grad_q, grad_k)


@dataclass(frozen=True, kw_only=True, slots=True)
class Problem:
    """Sizes of one call: q and k are [batch, length, num_heads, head_dim]."""

    batch: int
    length: int
    num_heads: int
    head_dim: int
    backward: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """One program: ``tiles_per_program`` tiles of ``block_r`` heads of q and k, one by one."""

    block_r: int
    block_half: int
    num_warps: int
    programs_per_item: int
    tiles_per_program: int


def pick(problem: Problem, num_sms: int) -> Config:
    """Choose the launch for a device with ``num_sms`` multiprocessors.

    A tile holds 2048 elements of q and as many of k: 16 of each per thread in the forward, 8 in the
    backward, which keeps more values alive.
    """
    block_half = next_power_of_two(problem.head_dim // 2)
    rows = problem.length * problem.num_heads
    block_r = min(max(1, 1024 // block_half), next_power_of_two(rows))
    elements = block_r * block_half * 2
    num_warps = max(1, elements // (256 if problem.backward else 512))
    num_tiles = cdiv(rows, block_r)
    if problem.backward:
        # Every program writes a row of partial sums: few programs, but enough to fill the device.
        walk = share_tiles(num_tiles, problem.batch, max_programs=4 * num_sms)
    else:
        walk = share_tiles(num_tiles, problem.batch, max_programs=16 * num_sms, max_tiles=4)
    return Config(
        block_r=block_r,
        block_half=block_half,
        num_warps=num_warps,
        programs_per_item=walk.programs,
        tiles_per_program=walk.tiles,
    )
