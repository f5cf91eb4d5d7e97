"""Triton kernels of the input's gradient of a causal convolution, a nearest upsampling folded in.

    dp[p, c] = sum over taps k and outputs o of dy[y, o] w[k, o, c],  p = stride y + k  (per axis)

over the padded input p, or y = u p - k where the convolution is of a video enlarged u times along
an axis and w holds its summed taps (see upsample_conv3d). The gradient of x is dp without the
padding, plus, where the padding repeats the border, the sum of dp over everything that repeats a
pixel. Between zeros x may have been activated before, and may also reach y by a shortcut around all
of that: its gradient is multiplied by the derivative of SiLU, and the shortcut's is added.

Layout: channels-last, dense; w [taps, O, C].
Parallel: one program per (frame of x, remainder of p by the stride, tile of positions, tile of
channels). With a stride, all positions of a program meet the same taps, so that no product is of
zeros. Frame 0 adds up the frames that repeat it; the other repeated pixels, a ring of the padding's
width around the frame, go to a buffer in fp32, from which `fold_kernel` adds them to the border.
Bytes: reads dy once per tap (through L2), writes dx, and the ring twice.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import triton
import triton.language as tl

from ..common.launch import Launch, cdiv
from ._triton_shortcut import add_pooled, repeated
from .launch import Shortcut
from .launch_backward import Geometry, InputConfig


@triton.jit
def ring_row(p_h, p_w, H, W, FH: tl.constexpr, FW: tl.constexpr):
    """Row in the ring of a position of the padded frame that is not in the frame itself."""
    width = W + 2 * FW
    above_or_below = tl.where(p_h < FH, p_h, p_h - H) * width + p_w
    beside = 2 * FH * width + (p_h - FH) * (2 * FW) + tl.where(p_w < FW, p_w, p_w - W)
    return tl.where((p_h < FH) | (p_h >= FH + H), above_or_below, beside)


@triton.jit
def add_frame(
    b_dx, dy_ptr, w_ptr, y_h, y_w, offs_c, tap_t, residue_h, residue_w, H_OUT, W_OUT,
    C: tl.constexpr, O: tl.constexpr, KH: tl.constexpr, KW: tl.constexpr,
    SH: tl.constexpr, SW: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """Add what one frame of dy sends through one tap in time and all its taps in space."""
    taps_w = (KW - residue_w + SW - 1) // SW
    num_taps = (KH - residue_h + SH - 1) // SH * taps_w
    offs_k = tl.arange(0, BLOCK_K)
    at_dy = (y_h * W_OUT + y_w)[:, None] * O + offs_k[None, :]
    at_w = offs_k[:, None] * C + offs_c[None, :]
    mask_c = (offs_c < C)[None, :]
    for k in range(0, num_taps * ((O + BLOCK_K - 1) // BLOCK_K)):
        # Taps innermost: neighbours read the same rows of dy.
        tap = k % num_taps
        from_o = k // num_taps * BLOCK_K
        up = tap // taps_w
        left = tap % taps_w
        slab = (tap_t * KH + residue_h + SH * up) * KW + residue_w + SW * left
        mask = (y_h >= up) & (y_h < H_OUT + up) & (y_w >= left) & (y_w < W_OUT + left)
        mask_dy = mask[:, None]
        mask_w = mask_c
        if O % BLOCK_K != 0:
            mask_dy = mask_dy & (offs_k < O - from_o)[None, :]
            mask_w = mask_w & (offs_k < O - from_o)[:, None]
        b_dy = tl.load(dy_ptr + (from_o - (up * W_OUT + left) * O) + at_dy, mask_dy, 0.0)
        b_w = tl.load(w_ptr + (slab * O + from_o) * C + at_w, mask_w, 0.0)
        b_dx = tl.dot(b_dy, b_w, b_dx, input_precision="ieee")
    return b_dx


@triton.jit
def gradient_of_silu(b_x):
    """The derivative of x * sigmoid(x)."""
    b_sigmoid = 1.0 / (1.0 + tl.exp(-b_x))
    return b_sigmoid * (1.0 + b_x * (1.0 - b_sigmoid))


@triton.jit
def add_shortcut_gradient(
    b_dx, dy_ptr, t, steps_h, steps_w, residue_h, residue_w, offs_c, mask, H_OUT, W_OUT,
    O: tl.constexpr, ST: tl.constexpr, SH: tl.constexpr, SW: tl.constexpr,
    UT: tl.constexpr, UH: tl.constexpr, UW: tl.constexpr,
    POOLS: tl.constexpr, GROUP: tl.constexpr,
):  # fmt: skip
    """Add what y sends around the convolution to pixels (t, S * steps + residue) of x."""
    row_size = W_OUT * O
    if POOLS:
        dy_ptr += (t // ST).to(tl.int64) * H_OUT * row_size
        at = (steps_h * row_size + steps_w * O)[:, None]
        phase = (t % ST * SH + residue_h) * SW + residue_w
        b_dx += repeated(dy_ptr, at, phase, offs_c, mask, ST * SH * SW, GROUP) / GROUP
    else:
        dy_ptr += (t * UT).to(tl.int64) * H_OUT * row_size
        at = (steps_h * UH * row_size + steps_w * UW * O)[:, None]
        b_dx = add_pooled(
            b_dx, dy_ptr, at, offs_c, mask, H_OUT * row_size, row_size, 1.0, O, UT, UH, UW, GROUP
        )  # fmt: skip
    return b_dx


@triton.jit
def store_gradient(
    b_dx, dx_ptr, x_ptr, dy_ptr, at_m, inside, t, steps_h, steps_w, residue_h, residue_w, start_c,
    H_OUT, W_OUT, C: tl.constexpr, O: tl.constexpr,
    ST: tl.constexpr, SH: tl.constexpr, SW: tl.constexpr,
    UT: tl.constexpr, UH: tl.constexpr, UW: tl.constexpr,
    SHORTCUT: tl.constexpr, POOLS: tl.constexpr, GROUP: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    """Multiply by the derivative of SiLU, add the shortcut's gradient, round, store."""
    offs_c = start_c + tl.arange(0, BLOCK_N)
    at = at_m[:, None] * C + offs_c[None, :]
    mask = inside[:, None] & (offs_c < C)[None, :]
    if x_ptr is not None:
        b_dx *= gradient_of_silu(tl.load(x_ptr + at, mask=mask, other=0.0).to(tl.float32))
    if SHORTCUT:
        b_dx = add_shortcut_gradient(
            b_dx, dy_ptr, t, steps_h, steps_w, residue_h, residue_w, offs_c, mask,
            H_OUT, W_OUT, O, ST, SH, SW, UT, UH, UW, POOLS, GROUP,
        )  # fmt: skip
    tl.store(dx_ptr + at, b_dx.to(dx_ptr.dtype.element_ty), mask=mask)


@triton.jit
def input_gradient_kernel(
    dy_ptr, w_ptr, dx_ptr, ring_ptr, x_ptr, T, H, W, T_OUT, H_OUT, W_OUT,
    C: tl.constexpr, O: tl.constexpr,
    KT: tl.constexpr, KH: tl.constexpr, KW: tl.constexpr,
    ST: tl.constexpr, SH: tl.constexpr, SW: tl.constexpr,
    UT: tl.constexpr, UH: tl.constexpr, UW: tl.constexpr,
    FT: tl.constexpr, FH: tl.constexpr, FW: tl.constexpr, REPEATS: tl.constexpr,
    SHORTCUT: tl.constexpr, POOLS: tl.constexpr, GROUP: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    # Padding of zeros gets no gradient: then only the frame inside it is computed.
    EDGE_H: tl.constexpr = FH if REPEATS else 0
    EDGE_W: tl.constexpr = FW if REPEATS else 0
    NUM_N: tl.constexpr = (C + BLOCK_N - 1) // BLOCK_N
    num_h = tl.cdiv(H + 2 * EDGE_H, SH)
    num_w = tl.cdiv(W + 2 * EDGE_W, SW)
    num_tiles = tl.cdiv(num_h * num_w, BLOCK_M)
    pid = tl.program_id(0)
    pid_n = pid % NUM_N
    offs_c = pid_n * BLOCK_N + tl.arange(0, BLOCK_N)
    pid = pid // NUM_N
    offs_m = pid % num_tiles * BLOCK_M + tl.arange(0, BLOCK_M)
    pid = pid // num_tiles
    first_w = FW - EDGE_W + pid % SW
    first_h = FH - EDGE_H + pid // SW % SH
    pid_frame = pid // (SW * SH)
    t = pid_frame % T
    steps_h = offs_m // num_w
    steps_w = offs_m % num_w
    # Where the first of a position's taps meets dy; each further tap meets the pixel before.
    y_h = UH * (first_h // SH + steps_h)
    y_w = UW * (first_w // SW + steps_w)
    plane = H_OUT * W_OUT * O
    dy_ptr += (pid_frame // T * T_OUT).to(tl.int64) * plane
    b_dx = tl.zeros([BLOCK_M, BLOCK_N], dtype=tl.float32)
    first_p = t + FT
    if REPEATS:
        first_p = tl.where(t == 0, 0, first_p)
    for p in range(first_p, t + FT + 1):
        y_t = UT * (p // ST)
        # Only the taps that meet a frame of dy.
        first = tl.maximum(y_t - (T_OUT - 1), 0)
        end = tl.minimum((KT - p % ST + ST - 1) // ST, y_t + 1)
        frame_ptr = dy_ptr + (y_t - first).to(tl.int64) * plane
        for tap in range(first, end):
            b_dx = add_frame(
                b_dx, frame_ptr, w_ptr, y_h, y_w, offs_c, p % ST + ST * tap,
                first_h % SH, first_w % SW, H_OUT, W_OUT, C, O, KH, KW, SH, SW, BLOCK_K,
            )  # fmt: skip
            frame_ptr -= plane
    p_h = first_h + SH * steps_h
    p_w = first_w + SW * steps_w
    inside = (p_h >= FH) & (p_h < FH + H) & (p_w >= FW) & (p_w < FW + W)
    # A frame's elements are counted in 32 bits, its start is a pointer.
    start = pid_frame.to(tl.int64) * (H * W * C)
    dx_ptr += start
    at_m = (p_h - FH) * W + p_w - FW
    if x_ptr is not None:
        # In two halves: the activation of a whole tile would spill.
        x_ptr += start
        HALF: tl.constexpr = BLOCK_N // 2
        b_low, b_high = b_dx.reshape(BLOCK_M, 2, HALF).permute(0, 2, 1).split()
        for half in tl.static_range(2):
            store_gradient(
                b_low if half == 0 else b_high, dx_ptr, x_ptr, dy_ptr, at_m, inside, t,
                steps_h, steps_w, first_h - FH, first_w - FW, pid_n * BLOCK_N + half * HALF,
                H_OUT, W_OUT, C, O, ST, SH, SW, UT, UH, UW, SHORTCUT, POOLS, GROUP, HALF,
            )  # fmt: skip
    else:
        store_gradient(
            b_dx, dx_ptr, None, dy_ptr, at_m, inside, t,
            steps_h, steps_w, first_h - FH, first_w - FW, pid_n * BLOCK_N,
            H_OUT, W_OUT, C, O, ST, SH, SW, UT, UH, UW, SHORTCUT, POOLS, GROUP, BLOCK_N,
        )  # fmt: skip
    if REPEATS and FH + FW > 0:
        ring = (p_h < H + 2 * FH) & (p_w < W + 2 * FW) & (inside == 0)
        rows = pid_frame.to(tl.int64) * (2 * FH * (W + 2 * FW) + H * (2 * FW))
        at = (rows + ring_row(p_h, p_w, H, W, FH, FW))[:, None] * C + offs_c[None, :]
        tl.store(ring_ptr + at, b_dx, mask=ring[:, None] & (offs_c < C)[None, :])


@triton.jit
def fold_kernel(
    dx_ptr, ring_ptr, H, W, C, num_border,
    FH: tl.constexpr, FW: tl.constexpr, BLOCK_P: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """Add to every pixel on the border of a frame what the ring holds of its repetitions."""
    num_tiles = tl.cdiv(num_border, BLOCK_P)
    pid_frame = (tl.program_id(0) // num_tiles).to(tl.int64)
    offs_p = tl.program_id(0) % num_tiles * BLOCK_P + tl.arange(0, BLOCK_P)
    offs_c = tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)
    # The border: first row, last row if it is another, then the ends of the rows between.
    num_rows = tl.minimum(H, 2) * W
    num_ends = tl.minimum(W, 2)
    between = tl.maximum(offs_p - num_rows, 0)
    in_rows = offs_p < num_rows
    h = tl.where(in_rows, offs_p // W * (H - 1), 1 + between // num_ends)
    w = tl.where(in_rows, offs_p % W, between % num_ends * (W - 1))
    mask = (offs_p < num_border)[:, None] & (offs_c < C)[None, :]
    at = ((pid_frame * H + h) * W + w)[:, None] * C + offs_c[None, :]
    b_dx = tl.load(dx_ptr + at, mask=mask, other=0.0).to(tl.float32)
    ring_ptr += pid_frame * (2 * FH * (W + 2 * FW) + H * (2 * FW)) * C
    for i in tl.static_range((2 * FH + 1) * (2 * FW + 1)):
        up = i // (2 * FW + 1) - FH
        along = i % (2 * FW + 1) - FW
        if (up != 0) or (along != 0):
            repeats = offs_p < num_border
            if up != 0:
                repeats = repeats & (h == (0 if up < 0 else H - 1))
            if along != 0:
                repeats = repeats & (w == (0 if along < 0 else W - 1))
            row = ring_row(h + FH + up, w + FW + along, H, W, FH, FW).to(tl.int64)
            at_ring = row[:, None] * C + offs_c[None, :]
            b_dx += tl.load(ring_ptr + at_ring, mask=repeats[:, None] & mask, other=0.0)
    tl.store(dx_ptr + at, b_dx.to(dx_ptr.dtype.element_ty), mask=mask)


def plan_input_gradient(
    dy: torch.Tensor, taps: torch.Tensor, dx: torch.Tensor, ring: torch.Tensor,
    geometry: Geometry, config: InputConfig, *,
    activated: torch.Tensor | None = None, shortcut: Shortcut | None = None,
) -> Launch:  # fmt: skip
    """Plan dx without the ring, and the ring.

    dy [B, T', H', W', O], taps [kT·kH·kW, O, C], dx [B, T, H, W, C], all dense; ring: `new_ring`.
    ``activated``: what SiLU was applied to, as dx; ``shortcut``: how x also reaches y. Neither
    where the border is repeated.
    """
    assert not (geometry.repeats and (activated is not None or shortcut is not None))
    way = shortcut or Shortcut(pools=True, group=1)
    present = {} if activated is None else {"x_ptr": activated}
    absent = {"x_ptr": None} if activated is None else {}
    batch, frames, height, width, channels = dx.shape
    _, edge_h, edge_w = geometry.front if geometry.repeats else (0, 0, 0)
    _, step_h, step_w = geometry.stride
    positions = cdiv(height + 2 * edge_h, step_h) * cdiv(width + 2 * edge_w, step_w)
    programs = batch * frames * step_h * step_w * cdiv(positions, config.block_m)
    return Launch(
        kernel=input_gradient_kernel,
        grid=(programs * cdiv(channels, config.block_n),),
        arguments={
            "dy_ptr": dy, "w_ptr": taps, "dx_ptr": dx, "ring_ptr": ring,
            "T": frames, "H": height, "W": width,
            "T_OUT": dy.shape[1], "H_OUT": dy.shape[2], "W_OUT": dy.shape[3], **present,
        },
        constants={
            "C": channels, "O": dy.shape[4], **geometry.constants(), **absent,
            "SHORTCUT": shortcut is not None, **way.constants(),
            "BLOCK_M": config.block_m, "BLOCK_N": config.block_n, "BLOCK_K": config.block_k,
        },
        num_warps=config.num_warps,
        num_stages=config.num_stages,
    )  # fmt: skip


def new_ring(dx_shape: Sequence[int], geometry: Geometry, like: torch.Tensor) -> torch.Tensor:
    """Room for the gradients of repeated pixels: fp32 [B·T, positions, C]."""
    batch, frames, height, width, channels = dx_shape
    rows = geometry.ring_rows((frames, height, width))
    return torch.empty((batch * frames, rows, channels), dtype=torch.float32, device=like.device)


def plan_fold(dx: torch.Tensor, ring: torch.Tensor, geometry: Geometry) -> Launch:
    """Plan the sum of the ring into the border of dx [B, T, H, W, C], dense."""
    batch, frames, height, width, channels = dx.shape
    border = min(height, 2) * width + max(height - 2, 0) * min(width, 2)
    block_p, block_c = 32, 64
    return Launch(
        kernel=fold_kernel,
        grid=(batch * frames * cdiv(border, block_p), cdiv(channels, block_c)),
        arguments={
            "dx_ptr": dx, "ring_ptr": ring, "H": height, "W": width, "C": channels,
            "num_border": border,
        },
        constants={
            "FH": geometry.front[1], "FW": geometry.front[2],
            "BLOCK_P": block_p, "BLOCK_C": block_c,
        },
        num_warps=4,
    )  # fmt: skip
