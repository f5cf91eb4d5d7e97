"""Triton kernels of the gradients of weight and bias of a causal convolution.

    dw[k, c, o] = sum over positions of x[p, c] dy[y, o],   db[o] = sum over y of dy[y, o]

where p and y meet at tap k: p = stride y + k, or y = u p - k where the convolution is of a video
enlarged u times along an axis and w holds its summed taps; p counts from the front of the padding,
which is read where x has what it repeats.

Layout: x and dy channels-last, dense; partial sums fp32 [splits, taps, C, O].
Parallel: the positions are split among a number of programs that the sizes and the device settle;
each, per tap and tile of C x O, walks over its positions in order. A second kernel adds the partial
sums in order: no atomics, equal inputs on equal devices give equal bits.
Bytes: reads x and dy once per tap and tile (through L2); writes and reads the partial sums.
"""

from __future__ import annotations

from math import prod

import torch
import triton
import triton.language as tl

from ..common.launch import Launch, cdiv, share_tiles
from .launch_backward import Geometry, Problem, WeightConfig


@triton.jit
def meet(q, tap, S: tl.constexpr, U: tl.constexpr, F: tl.constexpr):
    """Positions of x and of dy, along one axis, that meet at a tap in step q of the walk."""
    if U == 1:
        x = S * q + tap - F
        y = q
    else:
        x = q - F
        y = U * q - tap
    return x, y


@triton.jit
def weight_gradient_kernel(
    x_ptr, dy_ptr, partial_ptr, T, H, W, T_OUT, H_OUT, W_OUT, NUM_T, NUM_H, NUM_W,
    num_blocks, blocks_per_program,
    C: tl.constexpr, O: tl.constexpr,
    KT: tl.constexpr, KH: tl.constexpr, KW: tl.constexpr,
    ST: tl.constexpr, SH: tl.constexpr, SW: tl.constexpr,
    UT: tl.constexpr, UH: tl.constexpr, UW: tl.constexpr,
    FT: tl.constexpr, FH: tl.constexpr, FW: tl.constexpr, REPEATS: tl.constexpr,
    BLOCK_P: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_O: tl.constexpr,
):  # fmt: skip
    NUM_O: tl.constexpr = (O + BLOCK_O - 1) // BLOCK_O
    NUM_C: tl.constexpr = (C + BLOCK_C - 1) // BLOCK_C
    pid = tl.program_id(0)
    offs_o = pid % NUM_O * BLOCK_O + tl.arange(0, BLOCK_O)
    offs_c = pid // NUM_O % NUM_C * BLOCK_C + tl.arange(0, BLOCK_C)
    slab = pid // (NUM_O * NUM_C)  # of the partial sums
    tap_t = slab // (KH * KW) % KT
    tap_h = slab // KW % KH
    tap_w = slab % KW
    start = slab // (KT * KH * KW) * blocks_per_program
    mask_c = (offs_c < C)[None, :]
    mask_o = (offs_o < O)[None, :]
    blocks_per_frame = tl.cdiv(NUM_H * NUM_W, BLOCK_P)
    b_dw = tl.zeros([BLOCK_C, BLOCK_O], dtype=tl.float32)
    for step in range(0, tl.minimum(blocks_per_program, num_blocks - start)):
        block = start + step
        offs_p = block % blocks_per_frame * BLOCK_P + tl.arange(0, BLOCK_P)
        frame = block // blocks_per_frame
        x_t, y_t = meet(frame % NUM_T, tap_t, ST, UT, FT)
        x_h, y_h = meet(offs_p // NUM_W, tap_h, SH, UH, FH)
        x_w, y_w = meet(offs_p % NUM_W, tap_w, SW, UW, FW)
        meets = (y_t >= 0) & (y_t < T_OUT)
        if not REPEATS:
            meets = meets & (x_t >= 0) & (x_t < T)
        mask = offs_p < tl.where(meets, NUM_H * NUM_W, 0)
        # Steps of the walk stay inside dy unless an upsampling is folded in.
        if UH > 1:
            mask = mask & (y_h >= 0) & (y_h < H_OUT)
        if UW > 1:
            mask = mask & (y_w >= 0) & (y_w < W_OUT)
        if REPEATS:
            x_t = tl.minimum(tl.maximum(x_t, 0), T - 1)
            x_h = tl.minimum(tl.maximum(x_h, 0), H - 1)
            x_w = tl.minimum(tl.maximum(x_w, 0), W - 1)
        else:
            mask = mask & (x_h >= 0) & (x_h < H) & (x_w >= 0) & (x_w < W)
        mask = mask[:, None]
        item = frame // NUM_T
        x_frame = x_ptr + (item * T + x_t).to(tl.int64) * (H * W * C)
        dy_frame = dy_ptr + (item * T_OUT + y_t).to(tl.int64) * (H_OUT * W_OUT * O)
        at_x = (x_h * W + x_w)[:, None] * C + offs_c[None, :]
        at_dy = (y_h * W_OUT + y_w)[:, None] * O + offs_o[None, :]
        b_x = tl.load(x_frame + at_x, mask=mask & mask_c, other=0.0)
        b_dy = tl.load(dy_frame + at_dy, mask=mask & mask_o, other=0.0)
        b_dw = tl.dot(b_x.T, b_dy, b_dw, input_precision="ieee")
    at = (slab.to(tl.int64) * C + offs_c)[:, None] * O + offs_o[None, :]
    tl.store(partial_ptr + at, b_dw, mask=(offs_c < C)[:, None] & mask_o)


@triton.jit
def bias_gradient_kernel(
    dy_ptr, partial_ptr, num_rows, O, tiles_per_program,
    BLOCK_R: tl.constexpr, BLOCK_O: tl.constexpr,
):  # fmt: skip
    """partial[s, o] = sum of dy[r, o] over the rows of program s."""
    pid = tl.program_id(0).to(tl.int64)
    offs_o = tl.program_id(1) * BLOCK_O + tl.arange(0, BLOCK_O)
    mask_o = offs_o < O
    b_sum = tl.zeros([BLOCK_R, BLOCK_O], dtype=tl.float32)
    for tile in range(0, tiles_per_program):
        offs_r = (pid * tiles_per_program + tile) * BLOCK_R + tl.arange(0, BLOCK_R)
        mask = (offs_r < num_rows)[:, None] & mask_o[None, :]
        at = offs_r[:, None] * O + offs_o[None, :]
        b_sum += tl.load(dy_ptr + at, mask=mask, other=0.0).to(tl.float32)
    tl.store(partial_ptr + pid * O + offs_o, tl.sum(b_sum, axis=0), mask=mask_o)


@triton.jit
def sum_splits_kernel(
    partial_ptr, out_ptr, num_splits, N, C, O, TAPS, BLOCK: tl.constexpr
):  # fmt: skip
    """out[o, c, tap] = sum over s of partial[s, tap, c, o]; N = TAPS C O."""
    offs = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = offs < N
    b_sum = tl.zeros([BLOCK], dtype=tl.float32)
    for _ in range(0, num_splits):
        b_sum += tl.load(partial_ptr + offs, mask=mask, other=0.0)
        partial_ptr += N
    at = (offs % O * C + offs // O % C) * TAPS + offs // O // C
    tl.store(out_ptr + at, b_sum.to(out_ptr.dtype.element_ty), mask=mask)


def new_partial(
    x: torch.Tensor, dy: torch.Tensor, geometry: Geometry, config: WeightConfig
) -> torch.Tensor:
    """Room for partial sums of the weight's gradient: fp32 [splits, taps, C, O]."""
    splits, _ = config.splits(problem_of(x, dy, geometry), num_blocks(x, dy, geometry, config))
    shape = (splits, prod(geometry.kernel), x.shape[4], dy.shape[4])
    return torch.empty(shape, dtype=torch.float32, device=x.device)


def problem_of(x: torch.Tensor, dy: torch.Tensor, geometry: Geometry) -> Problem:
    """What the choice of a launch depends on; x and dy channels-last."""
    return Problem(
        channels=x.shape[4],
        out_channels=dy.shape[4],
        taps=prod(geometry.kernel),
        half_precision=x.element_size() == 2,
    )


def num_blocks(x: torch.Tensor, dy: torch.Tensor, geometry: Geometry, config: WeightConfig) -> int:
    """Blocks of positions of all frames that are walked over."""
    frames, height, width = geometry.walked(x.shape[1:4], dy.shape[1:4])
    return x.shape[0] * frames * cdiv(height * width, config.block_p)


def plan_weight_gradient(
    x: torch.Tensor, dy: torch.Tensor, partial: torch.Tensor, geometry: Geometry,
    config: WeightConfig,
) -> Launch:  # fmt: skip
    """Plan the partial sums; x [B, T, H, W, C] and dy [B, T', H', W', O] are dense."""
    splits, taps, channels, out_channels = partial.shape
    blocks = num_blocks(x, dy, geometry, config)
    _, blocks_per_program = config.splits(problem_of(x, dy, geometry), blocks)
    tiles = cdiv(channels, config.block_c) * cdiv(out_channels, config.block_o)
    num_t, num_h, num_w = geometry.walked(x.shape[1:4], dy.shape[1:4])
    return Launch(
        kernel=weight_gradient_kernel,
        grid=(splits * taps * tiles,),
        arguments={
            "x_ptr": x, "dy_ptr": dy, "partial_ptr": partial,
            "T": x.shape[1], "H": x.shape[2], "W": x.shape[3],
            "T_OUT": dy.shape[1], "H_OUT": dy.shape[2], "W_OUT": dy.shape[3],
            "NUM_T": num_t, "NUM_H": num_h, "NUM_W": num_w,
            "num_blocks": blocks, "blocks_per_program": blocks_per_program,
        },
        constants={
            "C": channels, "O": out_channels, **geometry.constants(),
            "BLOCK_P": config.block_p, "BLOCK_C": config.block_c, "BLOCK_O": config.block_o,
        },
        num_warps=config.num_warps,
        num_stages=config.num_stages,
    )  # fmt: skip


def plan_bias_gradient(dy: torch.Tensor, num_sms: int) -> tuple[Launch, torch.Tensor]:
    """Plan partial sums of dy [..., O], dense, over its rows; and their room, [splits, 1, 1, O]."""
    out_channels = dy.shape[-1]
    rows = dy.numel() // out_channels
    block_r, block_o = 32, 64
    walk = share_tiles(cdiv(rows, block_r), cdiv(out_channels, block_o), 4 * num_sms)
    shape = (walk.programs, 1, 1, out_channels)
    partial = torch.empty(shape, dtype=torch.float32, device=dy.device)
    launch = Launch(
        kernel=bias_gradient_kernel,
        grid=(walk.programs, cdiv(out_channels, block_o)),
        arguments={
            "dy_ptr": dy, "partial_ptr": partial, "num_rows": rows, "O": out_channels,
            "tiles_per_program": walk.tiles,
        },
        constants={"BLOCK_R": block_r, "BLOCK_O": block_o},
        num_warps=4,
    )  # fmt: skip
    return launch, partial


def plan_sum_splits(partial: torch.Tensor, out: torch.Tensor) -> Launch:
    """Plan out [O, C, taps] = the sum over splits of partial [splits, taps, C, O]; both dense."""
    splits, taps, channels, out_channels = partial.shape
    block = 512
    return Launch(
        kernel=sum_splits_kernel,
        grid=(cdiv(out.numel(), block),),
        arguments={
            "partial_ptr": partial, "out_ptr": out, "num_splits": splits, "N": out.numel(),
            "C": channels, "O": out_channels, "TAPS": taps,
        },
        constants={"BLOCK": block},
        num_warps=4,
    )  # fmt: skip
