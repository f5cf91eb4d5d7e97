"""What the Triton kernels of linear_attention can run, and how they are launched."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ..common.availability import triton_why_not
from ..common.launch import cdiv, share_tiles

# Matrix products need 16 channels; two states of 64 channels fill half of the registers.
_HEAD_DIMS = (16, 32, 64)


def why_not(
    qkv: Tensor, depth_weight: Tensor, point_weight: Tensor, head_dim: int, eps: float
) -> str | None:
    """Return why the kernels cannot serve a call, or None."""
    if qkv.numel() == 0:
        return "the tensor is empty"
    if head_dim not in _HEAD_DIMS:
        return f"head_dim is {head_dim}, the kernels have {', '.join(map(str, _HEAD_DIMS))}"
    return triton_why_not(qkv, depth_weight, point_weight)


def backward_why_not(
    grad: Tensor, qkv: Tensor, depth_weight: Tensor, point_weight: Tensor, *_: object
) -> str | None:
    """Return why the kernels cannot serve the gradients, or None."""
    if qkv.numel() == 0:
        return "the tensor is empty"
    return triton_why_not(grad, qkv, depth_weight, point_weight)


@dataclass(frozen=True, kw_only=True, slots=True)
class Problem:
    """Sizes of one call: ``heads`` counts those of the whole batch, of one scale."""

    heads: int
    head_dim: int
    positions: int
    itemsize: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """Programs of the first kernel walk ``tiles_per_program`` tiles of ``block_p`` positions.

    Those of the last take one tile of ``apply_block_p``.
    """

    block_p: int
    programs_per_head: int
    tiles_per_program: int
    apply_block_p: int
    num_warps: int


def pick(problem: Problem, num_sms: int) -> Config:
    """Choose the launch: enough programs to fill the device, each with a row of partial sums."""
    # With 64 positions the products spill; those in fp32 also with four warps, and those in half
    # precision with eight.
    block_p = 32 if problem.head_dim <= 32 else 16
    num_tiles = cdiv(problem.positions, block_p)
    walk = share_tiles(num_tiles, problem.heads, max_programs=8 * num_sms)
    return Config(
        block_p=block_p,
        programs_per_head=walk.programs,
        tiles_per_program=walk.tiles,
        apply_block_p=4 * block_p,
        num_warps=4 if problem.itemsize == 2 else 8,
    )
