"""Triton kernel of convolutions of any kernel and stride: every tap looks its pixels up.

Layout: x [B, T, H, W, C], y [B, T', H', W', O], dense; the packed weight of `_triton_weights.py`.
Pixels are clamped into the frame (replicate), masked (zeros), or inside anyway (valid). A video to
be enlarged is looked up as it is: its pixels stand for all their copies. With few channels
("joint") taps and channels are one index, so that a product is not mostly padding.
Parallel and bytes: see `_triton.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import triton
import triton.language as tl
from torch import Tensor

from ..common.launch import Launch, cdiv
from ._triton_shortcut import add_shortcut
from ._triton_tiles import finish_tile, place_of, plan_tiles
from .launch import Config, Shortcut

# Sizes change from video to video; the kernel is the same for all of them.
_SIZES = (
    "num_frames", "x_frames", "x_height", "x_width", "T", "H", "W", "front", "top", "left",
)  # fmt: skip


@triton.jit
def inner_index(
    k, C: tl.constexpr, PACKED_C: tl.constexpr, KT: tl.constexpr, TAPS: tl.constexpr,
    JOINT: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """Of block k: its first row of the weight, taps in time and space, channels, whether real."""
    offs_k = tl.arange(0, BLOCK_K)[None, :]
    if JOINT:
        # A row of the packed weight is a tap and a channel: one of each per column of b_x.
        w_row = k * BLOCK_K
        row = w_row + offs_k
        tap_t = row // (C * TAPS)
        tap = row // C % TAPS
        channel = row % C
        inside = row < KT * TAPS * C
    else:
        tap_t = k // (PACKED_C // BLOCK_K * TAPS)
        tap = k % TAPS
        start_c = k // TAPS % (PACKED_C // BLOCK_K) * BLOCK_K
        w_row = (tap_t * TAPS + tap) * PACKED_C + start_c
        channel = start_c + offs_k
        inside = channel < C
    return w_row, tap_t, tap, channel, inside


@triton.jit(do_not_specialize=_SIZES)
def gather_kernel(
    x_ptr, w_ptr, y_ptr, bias_ptr, residual_ptr, shortcut_ptr,
    num_frames, x_frames, x_height, x_width, T, H, W, front, top, left,
    C: tl.constexpr, O: tl.constexpr,
    ROWS: tl.constexpr, PACKED_C: tl.constexpr, PACKED_O: tl.constexpr,
    KT: tl.constexpr, KH: tl.constexpr, KW: tl.constexpr,
    ST: tl.constexpr, SH: tl.constexpr, SW: tl.constexpr,
    UT: tl.constexpr, UH: tl.constexpr, UW: tl.constexpr,
    POOLS: tl.constexpr, GROUP: tl.constexpr,
    ZEROS: tl.constexpr, JOINT: tl.constexpr, SPLIT: tl.constexpr,
    FRAMES_TOGETHER: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """x: [B, x_frames, x_height, x_width, C]; y: [B, T, H, W, O]; w: [ROWS, PACKED_O].

    S: stride; U: how often every frame, row and column of x is repeated, between zeros only.
    """
    pid = tl.program_id(0)
    start_n = pid % (PACKED_O // BLOCK_N) * BLOCK_N
    pid_m = pid // (PACKED_O // BLOCK_N)
    num_tiles = tl.cdiv(H * W, BLOCK_M)
    pid_f, tile = place_of(pid_m, num_tiles, num_frames, FRAMES_TOGETHER)
    start_m = tile * BLOCK_M
    x_ptr += (pid_f // T * x_frames).to(tl.int64) * x_height * x_width * C
    frame = pid_f % T * ST - front
    offs_m = tl.arange(0, BLOCK_M)
    offs_k = tl.arange(0, BLOCK_K)
    mask_m = start_m + offs_m < H * W
    pixel = tl.minimum(start_m + offs_m, H * W - 1)
    base_h = (pixel // W * SH - top)[:, None]
    base_w = (pixel % W * SW - left)[:, None]
    at_w = offs_k[:, None] * PACKED_O + (start_n + tl.arange(0, BLOCK_N))[None, :]
    b_acc = tl.zeros([BLOCK_M, BLOCK_N], dtype=tl.float32)
    for k in range(ROWS // BLOCK_K):
        w_row, tap_t, tap, channel, inside = inner_index(
            k, C, PACKED_C, KT, KH * KW, JOINT, BLOCK_K
        )
        at_t = frame + tap_t
        at_h = base_h + tap // KW
        at_x = base_w + tap % KW
        if ZEROS:
            at_h = tl.where((at_t >= 0) & (at_t < UT * x_frames), at_h, -1)
            inside = inside & (at_h >= 0) & (at_h < UH * x_height)
            inside = inside & (at_x >= 0) & (at_x < UW * x_width)
        at_t = tl.maximum(at_t, 0) // UT
        at_h = tl.minimum(tl.maximum(at_h, 0) // UH, x_height - 1)
        at_x = tl.minimum(tl.maximum(at_x, 0) // UW, x_width - 1)
        # A frame's elements are counted in 32 bits, its start is a pointer.
        frames = x_ptr + at_t.to(tl.int64) * x_height * x_width * C
        at = (at_h * x_width + at_x) * C + channel
        if ZEROS or JOINT or C % BLOCK_K != 0:
            b_x = tl.load(frames + at, mask=inside, other=0.0)
        else:
            b_x = tl.load(frames + at)
        b_w = tl.load(w_ptr + w_row * PACKED_O + at_w)
        b_acc = tl.dot(b_x, b_w, b_acc, input_precision="ieee")
    first_row = pid_f.to(tl.int64) * H * W + start_m
    if shortcut_ptr is not None:
        # In two halves: the addresses of a whole tile would spill.
        HALF: tl.constexpr = BLOCK_N // 2
        b_low, b_high = b_acc.reshape(BLOCK_M, 2, HALF).permute(0, 2, 1).split()
        for half in tl.static_range(2):
            start_o = start_n + half * HALF
            offs_n = start_o + tl.arange(0, HALF)
            b_half = add_shortcut(
                b_low if half == 0 else b_high, shortcut_ptr, pid_f, pixel // W, pixel % W,
                offs_n, (offs_n < O)[None, :], T, x_frames, x_height, x_width, C,
                ST, SH, SW, UT, UH, UW, POOLS, GROUP,
            )  # fmt: skip
            finish_tile(
                y_ptr, bias_ptr, residual_ptr, None, b_half, first_row, offs_m, mask_m, start_o,
                0, O, BLOCK_M, HALF, False,
            )  # fmt: skip
    else:
        finish_tile(
            y_ptr, bias_ptr, residual_ptr, None, b_acc, first_row, offs_m, mask_m, start_n,
            0, O, BLOCK_M, BLOCK_N, SPLIT,
        )  # fmt: skip


def plan_gather(
    x: Tensor, packed: Tensor, bias: Tensor | None, y: Tensor, kernel: Sequence[int],
    stride: Sequence[int], border: Sequence[tuple[int, int]], config: Config, zeros: bool,
    scale: Sequence[int] = (1, 1, 1), shortcut: tuple[Tensor, Shortcut] | None = None,
) -> Launch:  # fmt: skip
    """Plan y [B, T', H', W', O] from x [B, T, H, W, C], both contiguous.

    ``shortcut``: what is added, and how, of a video of the shape of x, contiguous.
    """
    source, way = shortcut or (None, Shortcut(pools=True, group=1))
    _, x_frames, x_height, x_width, channels = x.shape
    batch, frames, height, width, _ = y.shape
    arguments = {
        "x_ptr": x, "w_ptr": packed, "y_ptr": y, "bias_ptr": bias, "residual_ptr": None,
        "shortcut_ptr": source,
        "x_frames": x_frames, "x_height": x_height, "x_width": x_width,
        "num_frames": batch * frames, "T": frames, "H": height, "W": width,
        "front": border[0][0], "top": border[1][0], "left": border[2][0],
    }  # fmt: skip
    tiles = batch * frames * cdiv(height * width, config.block_m)
    launch = plan_tiles(gather_kernel, tiles, arguments, packed, kernel, channels, y, config, zeros)
    return replace(
        launch,
        constants=launch.constants
        | {"ROWS": packed.shape[0], "JOINT": config.form == "joint"}
        | {f"S{axis}": step for axis, step in zip("THW", stride, strict=True)}
        | {f"U{axis}": factor for axis, factor in zip("THW", scale, strict=True)}
        | way.constants(),
    )
