"""Triton kernels of pixel_unshuffle_average3d and channel_duplicate_shuffle3d, in both directions.

A large video L has blocks of TIMES x ROWS x COLUMNS pixels, a small one S a pixel for each. Pixel k
of a block of channel d is unshuffled channel u = d * PIXELS + k, which belongs to channel
u // GROUP of S:
    gather:  S[c] = factor * sum of L[u] over the group of c, + added[c]
    spread:  L[u] = factor * S[u // GROUP] + added[u]

Layout: any strides. Channels-last, programs take whole blocks (`launch`): of 2 or fewer runs of
JOINED pixels, each of which gives every large channel one term of a group. Two runs are two small
channels a large one, put side by side in registers; else TERMS neighbouring large channels are
added, or get the same value. So all reads and writes are of neighbouring channels.
Parallel: one program per tile of a row of pixels by channels.
Bytes: every tensor once, channels-last; otherwise small rows are read again from the caches.
Sums in fp32, in one order; rounded once.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import triton
import triton.language as tl

from .launch import Launch, strides
from .pixel_shuffle_launch import Config, Problem, pick, problem_of


@triton.jit
def locate(T, H, width_tiles, channel_tiles, BLOCK_W: tl.constexpr, BLOCK_C: tl.constexpr):
    """Batch item, frame and row of this program; columns and the number of its channel tile."""
    pid = tl.program_id(0).to(tl.int64)
    pid_c = pid % channel_tiles
    offs_w = pid // channel_tiles % width_tiles * BLOCK_W + tl.arange(0, BLOCK_W)
    row = pid // channel_tiles // width_tiles
    return row // H // T, row // H % T, row % H, offs_w[:, None], pid_c


@triton.jit
def gather_kernel(
    large_ptr, small_ptr, added_ptr, T, H, W, C, factor, width_tiles, channel_tiles,
    large_stride_b, large_stride_c, large_stride_t, large_stride_h, large_stride_w,
    small_stride_b, small_stride_c, small_stride_t, small_stride_h, small_stride_w,
    added_stride_b, added_stride_c, added_stride_t, added_stride_h, added_stride_w,
    TIMES: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, GROUP: tl.constexpr,
    HAS_ADDED: tl.constexpr, BLOCK_W: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """Tiles of S; its channels find their groups one element at a time."""
    b, t, h, offs_w, pid_c = locate(T, H, width_tiles, channel_tiles, BLOCK_W, BLOCK_C)
    offs_c = (pid_c * BLOCK_C + tl.arange(0, BLOCK_C))[None, :]
    mask = (offs_w < W) & (offs_c < C)
    large_ptr += b * large_stride_b + t * TIMES * large_stride_t + h * ROWS * large_stride_h
    b_sum = tl.zeros([BLOCK_W, BLOCK_C], dtype=tl.float32)
    for i in range(0, GROUP):
        u = offs_c * GROUP + i
        k = u % (TIMES * ROWS * COLUMNS)
        at = u // (TIMES * ROWS * COLUMNS) * large_stride_c
        at += k // (ROWS * COLUMNS) * large_stride_t + k // COLUMNS % ROWS * large_stride_h
        at += (offs_w * COLUMNS + k % COLUMNS) * large_stride_w
        b_sum += tl.load(large_ptr + at, mask=mask, other=0.0).to(tl.float32)
    b_y = b_sum * factor
    if HAS_ADDED:
        added_ptr += b * added_stride_b + t * added_stride_t + h * added_stride_h
        at = offs_w * added_stride_w + offs_c * added_stride_c
        b_y += tl.load(added_ptr + at, mask=mask, other=0.0).to(tl.float32)
    small_ptr += b * small_stride_b + t * small_stride_t + h * small_stride_h
    at = offs_w * small_stride_w + offs_c * small_stride_c
    tl.store(small_ptr + at, b_y.to(small_ptr.dtype.element_ty), mask=mask)


@triton.jit
def spread_kernel(
    large_ptr, small_ptr, added_ptr, T, H, W, C, factor, width_tiles, channel_tiles,
    large_stride_b, large_stride_c, large_stride_t, large_stride_h, large_stride_w,
    small_stride_b, small_stride_c, small_stride_t, small_stride_h, small_stride_w,
    added_stride_b, added_stride_c, added_stride_t, added_stride_h, added_stride_w,
    TIMES: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, GROUP: tl.constexpr,
    HAS_ADDED: tl.constexpr, BLOCK_W: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """Tiles of L, whose T, H, W and C these are; every element finds its channel of S."""
    b, t, h, offs_w, pid_c = locate(T, H, width_tiles, channel_tiles, BLOCK_W, BLOCK_C)
    offs_c = (pid_c * BLOCK_C + tl.arange(0, BLOCK_C))[None, :]
    mask = (offs_w < W) & (offs_c < C)
    line = (offs_c * TIMES + t % TIMES) * ROWS + h % ROWS
    channel = (line * COLUMNS + offs_w % COLUMNS) // GROUP
    small_ptr += b * small_stride_b + t // TIMES * small_stride_t + h // ROWS * small_stride_h
    at = offs_w // COLUMNS * small_stride_w + channel * small_stride_c
    b_y = tl.load(small_ptr + at, mask=mask, other=0.0).to(tl.float32) * factor
    if HAS_ADDED:
        added_ptr += b * added_stride_b + t * added_stride_t + h * added_stride_h
        at = offs_w * added_stride_w + offs_c * added_stride_c
        b_y += tl.load(added_ptr + at, mask=mask, other=0.0).to(tl.float32)
    large_ptr += b * large_stride_b + t * large_stride_t + h * large_stride_h
    at = offs_w * large_stride_w + offs_c * large_stride_c
    tl.store(large_ptr + at, b_y.to(large_ptr.dtype.element_ty), mask=mask)


@triton.jit
def offset_of_pixel(
    k: tl.constexpr, stride_t, stride_h, stride_w,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """How far pixel k of a block lies from its first one."""
    return (
        k // (ROWS * COLUMNS) * stride_t
        + k // COLUMNS % ROWS * stride_h
        + k % COLUMNS * stride_w
    )  # fmt: skip


@triton.jit
def gather_blocks_kernel(
    large_ptr, small_ptr, added_ptr, T, H, W, C, factor, width_tiles, channel_tiles,
    large_stride_b, large_stride_c, large_stride_t, large_stride_h, large_stride_w,
    small_stride_b, small_stride_c, small_stride_t, small_stride_h, small_stride_w,
    added_stride_b, added_stride_c, added_stride_t, added_stride_h, added_stride_w,
    TIMES: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
    JOINED: tl.constexpr, RUNS: tl.constexpr, TERMS: tl.constexpr,
    HAS_ADDED: tl.constexpr, BLOCK_W: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """Tiles of blocks; C counts large channels."""
    b, t, h, offs_w, pid_c = locate(T, H, width_tiles, channel_tiles, BLOCK_W, BLOCK_C)
    offs_d = (pid_c * BLOCK_C + tl.arange(0, BLOCK_C))[None, :]
    mask_w = offs_w < W
    mask = mask_w & (offs_d < C)
    large_ptr += b * large_stride_b + t * TIMES * large_stride_t + h * ROWS * large_stride_h
    at = offs_w * COLUMNS * large_stride_w + offs_d * large_stride_c
    b_first = tl.zeros([BLOCK_W, BLOCK_C], dtype=tl.float32)
    b_second = tl.zeros([BLOCK_W, BLOCK_C], dtype=tl.float32)
    for i in tl.static_range(0, JOINED):
        to = offset_of_pixel(i, large_stride_t, large_stride_h, large_stride_w, ROWS, COLUMNS)
        b_first += tl.load(large_ptr + to + at, mask=mask, other=0.0).to(tl.float32)
        if RUNS == 2:
            to = offset_of_pixel(
                JOINED + i, large_stride_t, large_stride_h, large_stride_w, ROWS, COLUMNS
            )
            b_second += tl.load(large_ptr + to + at, mask=mask, other=0.0).to(tl.float32)
    WIDTH: tl.constexpr = BLOCK_C * RUNS // TERMS
    if RUNS == 2:
        b_y = tl.reshape(tl.join(b_first, b_second), [BLOCK_W, WIDTH])
    elif TERMS > 1:
        b_y = tl.sum(tl.reshape(b_first, [BLOCK_W, WIDTH, TERMS]), axis=2)
    else:
        b_y = b_first
    b_y *= factor
    offs_c = (pid_c * WIDTH + tl.arange(0, WIDTH))[None, :]
    mask = mask_w & (offs_c < C * RUNS // TERMS)
    if HAS_ADDED:
        added_ptr += b * added_stride_b + t * added_stride_t + h * added_stride_h
        at = offs_w * added_stride_w + offs_c * added_stride_c
        b_y += tl.load(added_ptr + at, mask=mask, other=0.0).to(tl.float32)
    small_ptr += b * small_stride_b + t * small_stride_t + h * small_stride_h
    at = offs_w * small_stride_w + offs_c * small_stride_c
    tl.store(small_ptr + at, b_y.to(small_ptr.dtype.element_ty), mask=mask)


@triton.jit
def put(large_ptr, added_ptr, at_large, at_added, b_y, mask, HAS_ADDED: tl.constexpr):
    if HAS_ADDED:
        b_y += tl.load(added_ptr + at_added, mask=mask, other=0.0).to(tl.float32)
    tl.store(large_ptr + at_large, b_y.to(large_ptr.dtype.element_ty), mask=mask)


@triton.jit
def spread_blocks_kernel(
    large_ptr, small_ptr, added_ptr, T, H, W, C, factor, width_tiles, channel_tiles,
    large_stride_b, large_stride_c, large_stride_t, large_stride_h, large_stride_w,
    small_stride_b, small_stride_c, small_stride_t, small_stride_h, small_stride_w,
    added_stride_b, added_stride_c, added_stride_t, added_stride_h, added_stride_w,
    TIMES: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
    JOINED: tl.constexpr, RUNS: tl.constexpr, TERMS: tl.constexpr,
    HAS_ADDED: tl.constexpr, BLOCK_W: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """Tiles of blocks; C counts large channels."""
    b, t, h, offs_w, pid_c = locate(T, H, width_tiles, channel_tiles, BLOCK_W, BLOCK_C)
    WIDTH: tl.constexpr = BLOCK_C * RUNS // TERMS
    offs_c = (pid_c * WIDTH + tl.arange(0, WIDTH))[None, :]
    mask = (offs_w < W) & (offs_c < C * RUNS // TERMS)
    small_ptr += b * small_stride_b + t * small_stride_t + h * small_stride_h
    at = offs_w * small_stride_w + offs_c * small_stride_c
    b_x = tl.load(small_ptr + at, mask=mask, other=0.0).to(tl.float32) * factor
    if RUNS == 2:
        b_first, b_second = tl.split(tl.reshape(b_x, [BLOCK_W, BLOCK_C, 2]))
    else:
        b_x = tl.broadcast_to(b_x[:, :, None], [BLOCK_W, WIDTH, TERMS])
        b_first = tl.reshape(b_x, [BLOCK_W, BLOCK_C])
        b_second = b_first
    offs_d = (pid_c * BLOCK_C + tl.arange(0, BLOCK_C))[None, :]
    mask = (offs_w < W) & (offs_d < C)
    large_ptr += b * large_stride_b + t * TIMES * large_stride_t + h * ROWS * large_stride_h
    added_ptr += b * added_stride_b + t * TIMES * added_stride_t + h * ROWS * added_stride_h
    at = offs_w * COLUMNS * large_stride_w + offs_d * large_stride_c
    at_added = offs_w * COLUMNS * added_stride_w + offs_d * added_stride_c
    for k in tl.static_range(0, JOINED * RUNS):
        to = offset_of_pixel(k, large_stride_t, large_stride_h, large_stride_w, ROWS, COLUMNS)
        by = offset_of_pixel(k, added_stride_t, added_stride_h, added_stride_w, ROWS, COLUMNS)
        if k < JOINED:
            put(large_ptr + to, added_ptr + by, at, at_added, b_first, mask, HAS_ADDED)
        else:
            put(large_ptr + to, added_ptr + by, at, at_added, b_second, mask, HAS_ADDED)


def plan_gather(
    large: torch.Tensor, small: torch.Tensor, added: torch.Tensor | None, scale: Sequence[int],
    factor: float,
) -> Launch:  # fmt: skip
    """Plan small = factor * sums of groups of large, + added."""
    problem = problem_of(large, small, scale)
    config = pick(problem, spread=False)
    kernel = gather_blocks_kernel if config.whole_blocks else gather_kernel
    added_like = small if added is None else added
    channels = large.shape[1] if config.whole_blocks else small.shape[1]
    arguments = _arguments(large, small, added_like, small.shape[2:], channels, factor, config)
    constants = _constants(problem, config, added is not None)
    return _launch(kernel, arguments, constants, config)


def plan_spread(
    small: torch.Tensor, large: torch.Tensor, added: torch.Tensor | None, scale: Sequence[int],
    factor: float,
) -> Launch:  # fmt: skip
    """Plan large = factor * small at all places of a group, + added."""
    problem = problem_of(large, small, scale)
    config = pick(problem, spread=True)
    kernel = spread_blocks_kernel if config.whole_blocks else spread_kernel
    added_like = large if added is None else added
    size = small.shape[2:] if config.whole_blocks else large.shape[2:]
    arguments = _arguments(large, small, added_like, size, large.shape[1], factor, config)
    constants = _constants(problem, config, added is not None)
    return _launch(kernel, arguments, constants, config)


def _arguments(
    large: torch.Tensor, small: torch.Tensor, added: torch.Tensor, size: Sequence[int],
    channels: int, factor: float, config: Config,
) -> dict[str, object]:  # fmt: skip
    return {
        "large_ptr": large,
        "small_ptr": small,
        "added_ptr": added,
        "T": size[0],
        "H": size[1],
        "W": size[2],
        "C": channels,
        "factor": float(factor),
        "width_tiles": config.width_tiles,
        "channel_tiles": config.channel_tiles,
        **strides("large", large, "bcthw"),
        **strides("small", small, "bcthw"),
        **strides("added", added, "bcthw"),
    }


def _constants(problem: Problem, config: Config, has_added: bool) -> dict[str, object]:
    times, rows, columns = problem.scale
    of_groups = {"GROUP": problem.group}
    if config.whole_blocks:
        of_groups = {"JOINED": problem.joined, "RUNS": problem.runs, "TERMS": problem.terms}
    return {
        "TIMES": times,
        "ROWS": rows,
        "COLUMNS": columns,
        **of_groups,
        "HAS_ADDED": has_added,
        "BLOCK_W": config.block_w,
        "BLOCK_C": config.block_c,
    }


def _launch(kernel, arguments, constants, config: Config) -> Launch:
    return Launch(
        kernel=kernel,
        grid=(config.rows * config.width_tiles * config.channel_tiles,),
        arguments=arguments,
        constants=constants,
        num_warps=config.num_warps,
    )
