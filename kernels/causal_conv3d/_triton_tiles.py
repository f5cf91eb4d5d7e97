"""What both forms of the Triton convolution share: where a tile lies and how it ends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import triton
import triton.language as tl
from torch import Tensor

from ..common.launch import Launch
from .launch import Config


@triton.jit
def place_of(pid_m, num_tiles, num_frames, FRAMES_TOGETHER: tl.constexpr):
    """Frame and tile of a program: neighbours do the same tile of a few frames, which overlap."""
    group = pid_m // (num_tiles * FRAMES_TOGETHER)
    first = group * FRAMES_TOGETHER
    within = pid_m - first * num_tiles
    members = tl.minimum(num_frames - first, FRAMES_TOGETHER)
    return first + within % members, within // members


@triton.jit
def store_tile(
    y_ptr, bias_ptr, residual_ptr, partial_ptr, b_acc, at_m, mask_m, start_n,
    partial_stride, O: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    """Add bias and residual, round, store; y_ptr and residual_ptr point at row 0 of at_m."""
    offs_n = start_n + tl.arange(0, BLOCK_N)
    mask_n = offs_n < O
    if bias_ptr is not None:
        b_acc += tl.load(bias_ptr + offs_n, mask=mask_n, other=0.0).to(tl.float32)[None, :]
    at = at_m[:, None] * O + offs_n[None, :]
    mask = mask_m[:, None] & mask_n[None, :]
    if residual_ptr is not None:
        b_acc += tl.load(residual_ptr + at, mask=mask, other=0.0).to(tl.float32)
    b_y = b_acc.to(y_ptr.dtype.element_ty)
    tl.store(y_ptr + at, b_y, mask=mask)
    if partial_ptr is not None:
        # Of what was stored: sums over one tile are short, so their squares lose little.
        b_value = tl.where(mask_m[:, None], b_y.to(tl.float32), 0.0)
        tl.store(partial_ptr + offs_n, tl.sum(b_value, axis=0), mask=mask_n)
        b_square = tl.sum(b_value * b_value, axis=0)
        tl.store(partial_ptr + partial_stride + offs_n, b_square, mask=mask_n)


@triton.jit
def finish_tile(
    y_ptr, bias_ptr, residual_ptr, partial_ptr, b_acc, first_row, at_m, mask_m, start_n,
    partial_stride, O: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, SPLIT: tl.constexpr,
):  # fmt: skip
    """Store a tile whose rows lie at_m (32 bits) behind pixel first_row (64 bits) of y."""
    y_ptr += first_row * O
    if residual_ptr is not None:
        residual_ptr += first_row * O
    if SPLIT:
        # Conversion and residual of a whole large tile would spill what the loop left free.
        HALF: tl.constexpr = BLOCK_N // 2
        b_low, b_high = b_acc.reshape(BLOCK_M, 2, HALF).permute(0, 2, 1).split()
        store_tile(
            y_ptr, bias_ptr, residual_ptr, partial_ptr, b_low, at_m, mask_m, start_n,
            partial_stride, O, HALF,
        )  # fmt: skip
        store_tile(
            y_ptr, bias_ptr, residual_ptr, partial_ptr, b_high, at_m, mask_m, start_n + HALF,
            partial_stride, O, HALF,
        )  # fmt: skip
    else:
        store_tile(
            y_ptr, bias_ptr, residual_ptr, partial_ptr, b_acc, at_m, mask_m, start_n,
            partial_stride, O, BLOCK_N,
        )  # fmt: skip


def plan_tiles(
    kernel_function, tiles: int, arguments: dict[str, Any], packed: Tensor, kernel: Sequence[int],
    channels: int, y: Tensor, config: Config, zeros: bool,
) -> Launch:  # fmt: skip
    """The launch of either form: their common constants, and absent tensors as constants."""
    absent = {name: None for name, value in arguments.items() if value is None}
    taps = kernel[0] * kernel[1] * kernel[2]
    constants = {
        "C": channels, "O": y.shape[-1],
        "PACKED_C": config.packed_shape(channels, y.shape[-1], taps)[2],
        "PACKED_O": packed.shape[1],
        "KT": kernel[0], "KH": kernel[1], "KW": kernel[2],
        "ZEROS": zeros, "SPLIT": config.split, "FRAMES_TOGETHER": config.frames_together,
        "BLOCK_M": config.block_m, "BLOCK_N": config.block_n, "BLOCK_K": config.block_k,
    }  # fmt: skip
    return Launch(
        kernel=kernel_function,
        grid=(tiles * (packed.shape[1] // config.block_n),),
        arguments={name: value for name, value in arguments.items() if value is not None},
        constants=constants | absent,
        num_warps=config.num_warps,
        num_stages=config.num_stages,
    )
