"""Triton pieces of parameter-free shortcuts, and the kernel that adds one to a video in place.

The channels of a coarse video and those of a finer one are related by u = fine channel * f + phase,
where f is the number of fine pixels in a coarse one and phase which of them: `GROUP` neighbours u
belong to each channel of the coarser (or narrower) side.

    pooled     coarse[p, n] = sum over its u of fine[s * p + phase, channel]
    repeated   fine[s * p + phase, n] = coarse[p, channel of u]

A forward averages by the first or repeats by the second, and its gradient is the other.
Layout: channels-last, dense.
Parallel: inside a convolution's last step; the kernel: one program per tile of positions of a frame
and block of channels.
Bytes: reads x once, a multiple of C * 2 bytes apart; the kernel also reads and writes y.
"""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from ..common.launch import Launch, cdiv, next_power_of_two
from .launch import Shortcut


@triton.jit
def add_pooled(
    b_acc, fine_ptr, at, offs_n, mask, frame_size, row_size, WEIGHT: tl.constexpr,
    C: tl.constexpr, ST: tl.constexpr, SH: tl.constexpr, SW: tl.constexpr, GROUP: tl.constexpr,
):  # fmt: skip
    """Add WEIGHT times the group of every channel n; ``at`` [rows, 1] is where fine pixel s*p is.

    C channels, row_size and frame_size are the fine video's.
    """
    # Not unrolled: the loads of all members at once would not fit the registers.
    for j in range(GROUP):
        u = offs_n * GROUP + j
        phase = u % (ST * SH * SW)
        at_u = phase // (SH * SW) * frame_size + phase // SW % SH * row_size + phase % SW * C
        at_u += u // (ST * SH * SW)
        b_x = tl.load(fine_ptr + at + at_u[None, :], mask=mask, other=0.0)
        b_acc += b_x.to(tl.float32) * WEIGHT
    return b_acc


@triton.jit
def repeated(
    coarse_ptr, at, phase, offs_n, mask, PHASES: tl.constexpr, GROUP: tl.constexpr
):  # fmt: skip
    """What every channel n repeats; ``at`` [rows, 1] is where the coarse pixel is."""
    channel = (offs_n[None, :] * PHASES + phase) // GROUP
    return tl.load(coarse_ptr + at + channel, mask=mask, other=0.0).to(tl.float32)


@triton.jit
def add_shortcut(
    b_acc, x_ptr, pid_f, at_h, at_w, offs_n, mask, T, x_frames, x_height, x_width,
    C: tl.constexpr, ST: tl.constexpr, SH: tl.constexpr, SW: tl.constexpr,
    UT: tl.constexpr, UH: tl.constexpr, UW: tl.constexpr,
    POOLS: tl.constexpr, GROUP: tl.constexpr,
):  # fmt: skip
    """Add the shortcut of x [B, x_frames, x_height, x_width, C] at pixels of frame pid_f of y."""
    row_size = x_width * C
    frame_size = x_height * row_size
    frame = pid_f % T
    at_frame = (pid_f // T * x_frames + frame * ST // UT).to(tl.int64)
    x_ptr += at_frame * frame_size
    at_h = at_h[:, None]
    at_w = at_w[:, None]
    if POOLS:
        at = at_h * SH * row_size + at_w * SW * C
        b_acc = add_pooled(
            b_acc, x_ptr, at, offs_n, mask, frame_size, row_size, 1.0 / GROUP, C, ST, SH, SW, GROUP
        )
    else:
        phase = (frame % UT * UH + at_h % UH) * UW + at_w % UW
        at = at_h // UH * row_size + at_w // UW * C
        b_acc += repeated(x_ptr, at, phase, offs_n, mask, UT * UH * UW, GROUP)
    return b_acc


@triton.jit(do_not_specialize=("P",))
def shortcut_kernel(
    x_ptr, y_ptr, P, C: tl.constexpr, O: tl.constexpr,
    POOLS: tl.constexpr, GROUP: tl.constexpr, BLOCK_P: tl.constexpr, BLOCK_O: tl.constexpr,
):  # fmt: skip
    """y[p, o] += the mean of a group of x[p], or the channel of x[p] that o repeats."""
    offs_p = tl.program_id(0).to(tl.int64) * BLOCK_P + tl.arange(0, BLOCK_P)
    offs_o = tl.program_id(1) * BLOCK_O + tl.arange(0, BLOCK_O)
    mask = (offs_p < P)[:, None] & (offs_o < O)[None, :]
    at_y = offs_p[:, None] * O + offs_o[None, :]
    at_x = offs_p[:, None] * C
    b_y = tl.load(y_ptr + at_y, mask=mask, other=0.0).to(tl.float32)
    if POOLS:
        b_y = add_pooled(b_y, x_ptr, at_x, offs_o, mask, 0, 0, 1.0 / GROUP, C, 1, 1, 1, GROUP)
    else:
        b_y += repeated(x_ptr, at_x, 0, offs_o, mask, 1, GROUP)
    tl.store(y_ptr + at_y, b_y.to(y_ptr.dtype.element_ty), mask=mask)


def plan_shortcut(x: Tensor, y: Tensor, shortcut: Shortcut) -> Launch:
    """Plan y [..., O] += the shortcut of x [..., C], pixel by pixel; both dense."""
    channels, out_channels = x.shape[-1], y.shape[-1]
    pixels = x.numel() // channels
    block_o = min(128, next_power_of_two(out_channels))
    block_p = 2048 // block_o
    return Launch(
        kernel=shortcut_kernel,
        grid=(cdiv(pixels, block_p), cdiv(out_channels, block_o)),
        arguments={"x_ptr": x, "y_ptr": y, "P": pixels},
        constants={
            "C": channels, "O": out_channels, **shortcut.constants(),
            "BLOCK_P": block_p, "BLOCK_O": block_o,
        },
        num_warps=4,
    )  # fmt: skip
