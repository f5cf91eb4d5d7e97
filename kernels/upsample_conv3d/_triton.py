"""Triton kernels of upsample_conv3d: neither the upsampled nor the padded video ever exists.

Along a doubled axis, with S = w0 + w1 + w2, D[i] = x[i] - x[i-1], and what the padding has for
x[-1] and x[n] (D[0] = D[n] = 0 where it repeats), the convolution of the doubled x is exactly

    y[2i] = S x[i] - w0 D[i],    y[2i+1] = S x[i] + w2 D[i+1]    (three products for two outputs)
    y[2i] = w0 x[i-1] + (w1 + w2) x[i],  y[2i+1] = (w0 + w1) x[i] + w2 x[i+1]    (two for each)

The first form serves W, where both columns share the product with S; the second H, and T where it
is doubled (its first frame is single, so frame f looks at input frames ceil(f/2) - 1 and behind).
Between zeros (`conv3d`) time has them on both sides and its first frame is doubled, too: the same
input frames for an output frame, but none repeated. There x may also be activated, and a shortcut
of x added.

Layout: channels-last. `difference_kernel` writes d [2, B, T, H+2, W+1, C], x and its differences
along W, with a padding row above and below, so that every tap is a box of rows of d, at edges too:
the product needs no mask and no clamp but that of a scalar frame. The weights are packed in the
order in which they are consumed (_triton_weights). Channels are padded to whole blocks.
Parallel: one program per (output frame, parity of the output row, tile of positions, tile of
output channels); programs that read the same boxes follow each other.
Bytes: x is read about twice and d written; the product reads boxes of d and weights through L2 and
writes y. 4.5 times fewer multiplications than on the upsampled video for scale 2, 3 for (1, 2, 2).
The products accumulate in fp32; in half precision d and the summed weights are rounded once.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from triton.tools.tensor_descriptor import TensorDescriptor

from ..causal_conv3d._triton_border import silu
from ..causal_conv3d._triton_shortcut import repeated
from ..causal_conv3d.launch import Shortcut
from ..common.availability import capability
from ..common.launch import Launch, cdiv, next_power_of_two, strides
from ..contract import layout_of
from ._triton_weights import packed_weight
from .launch import Config, Problem, pick
from .reference import output_size


@triton.jit
def difference_kernel(
    x_ptr, d_ptr, T, H, W, C, num_rows,
    x_stride_b, x_stride_c, x_stride_t, x_stride_h, x_stride_w,
    C_PADDED: tl.constexpr, ZEROS: tl.constexpr, SILU: tl.constexpr,
    BLOCK_W: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    num_w = tl.cdiv(W + 1, BLOCK_W)
    pid_row = tl.program_id(0) // num_w
    offs_w = tl.program_id(0) % num_w * BLOCK_W + tl.arange(0, BLOCK_W)
    offs_c = tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)
    row = tl.minimum(tl.maximum(pid_row % (H + 2) - 1, 0), H - 1).to(tl.int64)
    frame = pid_row // (H + 2)
    x_ptr += (frame // T).to(tl.int64) * x_stride_b + (frame % T).to(tl.int64) * x_stride_t
    x_ptr += row * x_stride_h
    at_c = offs_c.to(tl.int64)[None, :] * x_stride_c
    # In column W, which is one past the last, both are the last pixel.
    here = tl.minimum(offs_w, W - 1).to(tl.int64)[:, None] * x_stride_w
    before = tl.maximum(offs_w - 1, 0).to(tl.int64)[:, None] * x_stride_w
    mask_w = (offs_w <= W)[:, None]
    mask_here = mask_w & (offs_c < C)[None, :]
    mask_before = mask_here
    if ZEROS:
        end = tl.where((pid_row % (H + 2) >= 1) & (pid_row % (H + 2) <= H), W, 0)
        mask_here = mask_here & (offs_w < end)[:, None]
        mask_before = mask_before & ((offs_w > 0) & (offs_w <= end))[:, None]
    b_x = tl.load(x_ptr + here + at_c, mask=mask_here, other=0.0)
    b_before = tl.load(x_ptr + before + at_c, mask=mask_before, other=0.0)
    if SILU:
        b_x = silu(b_x.to(tl.float32)).to(d_ptr.dtype.element_ty)
        b_before = silu(b_before.to(tl.float32)).to(d_ptr.dtype.element_ty)
    b_d = b_x.to(tl.float32) - b_before.to(tl.float32)
    at = pid_row.to(tl.int64) * (W + 1) + offs_w
    at = at[:, None] * C_PADDED + offs_c[None, :]
    mask = mask_w & (offs_c < C_PADDED)[None, :]
    tl.store(d_ptr + at, b_x, mask=mask)
    tl.store(d_ptr + num_rows.to(tl.int64) * C_PADDED + at, b_d.to(b_x.dtype), mask=mask)


@triton.jit
def add_product(
    b_y, d, u, offs_m, offs_n, start, start_u, start_n, frame, T, rows_per_frame, W1,
    TAPS_T: tl.constexpr, C: tl.constexpr, O: tl.constexpr, ZEROS: tl.constexpr,
    DESCRIPTORS: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """Add to b_y the taps of one product: frames from ``frame`` on, two rows each, all channels.

    Frames outside are the nearest one inside or, with ZEROS, left out.
    """
    STEPS: tl.constexpr = C // BLOCK_K
    offs_k = tl.arange(0, BLOCK_K)
    at_d = offs_m[:, None] * C + offs_k[None, :]
    at_u = offs_k[:, None] * O + offs_n[None, :]
    first_t = 0
    end_t = TAPS_T
    if ZEROS:
        first_t = tl.maximum(-frame, 0)
        end_t = tl.minimum(TAPS_T, T - frame)
    for k in range(first_t * (2 * STEPS), end_t * (2 * STEPS)):
        tap = k // STEPS
        from_c = k % STEPS * BLOCK_K
        tap_frame = tl.minimum(tl.maximum(frame + tap // 2, 0), T - 1)
        row = start + tap_frame * rows_per_frame + tap % 2 * W1
        row_u = start_u + k * BLOCK_K
        if DESCRIPTORS:
            b_d = d.load([row, from_c])
            b_u = u.load([row_u, start_n])
        else:
            b_d = tl.load(d + (row.to(tl.int64) * C + from_c) + at_d)
            b_u = tl.load(u + (row_u.to(tl.int64) * O + start_n) + at_u)
        b_y = tl.dot(b_d, b_u, b_y, input_precision="ieee")
    return b_y


@triton.jit
def part_of(b_acc, PART: tl.constexpr, PARTS: tl.constexpr):
    """Columns of a part of a tile: of its only one, or of its first or second half."""
    if PARTS == 1:
        b_part = b_acc
    else:
        shape: tl.constexpr = b_acc.shape
        b_low, b_high = b_acc.reshape(shape[0], 2, shape[1] // 2).permute(0, 2, 1).split()
        b_part = b_low if PART == 0 else b_high
    return b_part


@triton.jit
def store_columns(
    b_even, b_odd, y_ptr, bias_ptr, shortcut_ptr, offs_p, offs_o, first_row, phase, H, W, C, O,
    HAS_BIAS: tl.constexpr, PHASES: tl.constexpr, GROUP: tl.constexpr,
):  # fmt: skip
    """Add bias and shortcut to both columns of positions offs_p, round, store.

    ``first_row`` is the row of y of the first position; shortcut_ptr points at the frame of x.
    """
    offs_h = offs_p // (W + 1)
    offs_w = offs_p % (W + 1)
    mask_o = offs_o < O
    mask = ((offs_h < H) & (offs_w < W))[:, None] & mask_o[None, :]
    if HAS_BIAS:
        b_bias = tl.load(bias_ptr + offs_o, mask=mask_o, other=0.0).to(tl.float32)[None, :]
        b_even += b_bias
        b_odd += b_bias
    if shortcut_ptr is not None:
        at_x = ((offs_h * W + offs_w) * C)[:, None]
        b_x = repeated(shortcut_ptr, at_x, phase, offs_o, mask, PHASES, GROUP)
        b_even += b_x
        if GROUP % 2 != 0:  # else both columns, an even and the next odd phase, repeat one channel
            b_x = repeated(shortcut_ptr, at_x, phase + 1, offs_o, mask, PHASES, GROUP)
        b_odd += b_x
    at = (first_row + 2 * offs_h) * (2 * W) + 2 * offs_w
    at = at[:, None] * O + offs_o[None, :]
    tl.store(y_ptr + at, b_even.to(y_ptr.dtype.element_ty), mask=mask)
    tl.store(y_ptr + at + O, b_odd.to(y_ptr.dtype.element_ty), mask=mask)


@triton.jit
def product_kernel(
    d, u, y_ptr, bias_ptr, shortcut_ptr, T, H, W, T_OUT, C, O, num_rows,
    C_PADDED: tl.constexpr, O_PADDED: tl.constexpr, DOUBLED_T: tl.constexpr,
    HAS_BIAS: tl.constexpr, ZEROS: tl.constexpr, GROUP: tl.constexpr,
    DESCRIPTORS: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    TAPS_T: tl.constexpr = 2 if DOUBLED_T else 3
    NUM_N: tl.constexpr = O_PADDED // BLOCK_N
    W1 = W + 1
    rows_per_frame = (H + 2) * W1
    num_tiles = tl.cdiv(H * W1, BLOCK_M)
    pid = tl.program_id(0)
    start_n = pid % NUM_N * BLOCK_N
    b = pid // NUM_N % 2
    pid = pid // (2 * NUM_N)
    start_m = pid % num_tiles * BLOCK_M
    pid_frame = pid // num_tiles
    frame = pid_frame % T_OUT
    first_frame = pid_frame // T_OUT * T
    a = 0
    if DOUBLED_T:
        a = frame % 2
        oldest = frame // 2 + a - 1
    else:
        oldest = frame - (1 if ZEROS else 2)
    start = first_frame * rows_per_frame + start_m + b * W1
    start_u = (a * 2 + b) * (6 * TAPS_T * C_PADDED)
    offs_n = tl.arange(0, BLOCK_N)
    # Rows past the last pixel compute what nobody stores; pointers keep them inside the frame.
    offs_m = tl.minimum(tl.arange(0, BLOCK_M), H * W1 - 2 - start_m)
    b_even = tl.zeros([BLOCK_M, BLOCK_N], dtype=tl.float32)
    b_even = add_product(
        b_even, d, u, offs_m, offs_n, start, start_u, start_n, oldest, T, rows_per_frame, W1,
        TAPS_T, C_PADDED, O_PADDED, ZEROS, DESCRIPTORS, BLOCK_K,
    )  # fmt: skip
    b_odd = b_even
    b_even = add_product(
        b_even, d, u, offs_m, offs_n, start + num_rows, start_u + 2 * TAPS_T * C_PADDED, start_n,
        oldest, T, rows_per_frame, W1, TAPS_T, C_PADDED, O_PADDED, ZEROS, DESCRIPTORS, BLOCK_K,
    )  # fmt: skip
    b_odd = add_product(
        b_odd, d, u, offs_m, offs_n, start + num_rows + 1, start_u + 4 * TAPS_T * C_PADDED, start_n,
        oldest, T, rows_per_frame, W1, TAPS_T, C_PADDED, O_PADDED, ZEROS, DESCRIPTORS, BLOCK_K,
    )  # fmt: skip
    if shortcut_ptr is not None:
        if DOUBLED_T:
            frame = frame // 2
        shortcut_ptr += (first_frame + frame).to(tl.int64) * (H * W * C)
    # With a shortcut in two halves: the addresses of a whole tile would spill.
    PARTS: tl.constexpr = 1 if shortcut_ptr is None else 2
    for part in tl.static_range(PARTS):
        store_columns(
            part_of(b_even, part, PARTS), part_of(b_odd, part, PARTS), y_ptr, bias_ptr,
            shortcut_ptr, start_m + tl.arange(0, BLOCK_M),
            start_n + part * (BLOCK_N // PARTS) + tl.arange(0, BLOCK_N // PARTS),
            pid_frame.to(tl.int64) * (2 * H) + b, (a * 2 + b) * 2, H, W, C, O,
            HAS_BIAS, 8 if DOUBLED_T else 4, GROUP,
        )  # fmt: skip


def forward(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, scale: Sequence[int]
) -> torch.Tensor:
    """Run the forward as the op's schema has it."""
    config = pick(problem_of(x, weight), capability(x.device))
    return run(x, weight, bias, scale, config)


def run(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, scale: Sequence[int],
    config: Config, *, zeros: bool = False, silu: bool = False, shortcut: Shortcut | None = None,
) -> torch.Tensor:  # fmt: skip
    """Run the forward with a launch of one's own; with ``zeros`` that of conv3d."""
    frames, height, width = output_size(x.shape[2:], scale)
    if zeros:
        frames = x.shape[2] * scale[0]
    d = new_differences(x, config)
    u = packed_weight(weight, scale, config)
    y = torch.empty(
        (x.shape[0], frames, height, width, weight.shape[0]), dtype=x.dtype, device=x.device
    )
    plan_difference(x, d, zeros=zeros, silu=silu).run()
    bias = None if bias is None else bias.contiguous()
    plan_product(x, d, u, bias, y, scale, config, zeros=zeros, shortcut=shortcut).run()
    return y.permute(0, 4, 1, 2, 3).contiguous(memory_format=layout_of(x))


def problem_of(x: torch.Tensor, weight: torch.Tensor) -> Problem:
    """What `pick` needs to know of a call."""
    return Problem(
        channels=x.shape[1],
        out_channels=weight.shape[0],
        half_precision=x.element_size() == 2,
    )


def new_differences(x: torch.Tensor, config: Config) -> torch.Tensor:
    """Room for x and its differences along W: [2, B·T·(H+2)·(W+1), padded C]."""
    batch, channels, frames, height, width = x.shape
    channels, _ = config.padded(channels, 1)
    rows = batch * frames * (height + 2) * (width + 1)
    return torch.empty((2, rows, channels), dtype=x.dtype, device=x.device)


def plan_difference(
    x: torch.Tensor, d: torch.Tensor, *, zeros: bool = False, silu: bool = False
) -> Launch:
    """Plan d = x, or x activated, and its differences along W; d is that of `new_differences`."""
    batch, channels, frames, height, width = x.shape
    block_w, block_c = 32, min(64, next_power_of_two(d.shape[2]))
    arguments = {
        "x_ptr": x, "d_ptr": d, "T": frames, "H": height, "W": width, "C": channels,
        "num_rows": d.shape[1],
    }  # fmt: skip
    rows = batch * frames * (height + 2)
    return Launch(
        kernel=difference_kernel,
        grid=(rows * cdiv(width + 1, block_w), cdiv(d.shape[2], block_c)),
        arguments=arguments | strides("x", x, "bcthw"),
        constants={
            "C_PADDED": d.shape[2], "ZEROS": zeros, "SILU": silu,
            "BLOCK_W": block_w, "BLOCK_C": block_c,
        },
        num_warps=4,
    )  # fmt: skip


def plan_product(
    x: torch.Tensor, d: torch.Tensor, u: torch.Tensor, bias: torch.Tensor | None, y: torch.Tensor,
    scale: Sequence[int], config: Config, *, zeros: bool = False, shortcut: Shortcut | None = None,
) -> Launch:  # fmt: skip
    """Plan y [B, T', H', W', O] = boxes of d times u, plus bias and shortcut of x; y is dense."""
    batch, channels, frames, height, width = x.shape
    source = None if shortcut is None else x.permute(0, 2, 3, 4, 1).contiguous()
    absent = {"shortcut_ptr": None} if source is None else {}
    present = {} if source is None else {"shortcut_ptr": source}
    _, c_padded, o_padded = u.shape
    rows_d, rows_u = d.flatten(0, 1), u.flatten(0, 1)
    if config.descriptors:
        rows_d = TensorDescriptor.from_tensor(rows_d, [config.block_m, config.block_k])
        rows_u = TensorDescriptor.from_tensor(rows_u, [config.block_k, config.block_n])
    tiles = batch * y.shape[1] * cdiv(height * (width + 1), config.block_m)
    return Launch(
        kernel=product_kernel,
        grid=(tiles * 2 * (o_padded // config.block_n),),
        arguments={
            "d": rows_d, "u": rows_u, "y_ptr": y, "bias_ptr": y if bias is None else bias,
            "T": frames, "H": height, "W": width, "T_OUT": y.shape[1],
            "C": channels, "O": y.shape[4], "num_rows": d.shape[1], **present,
        },
        constants={
            "C_PADDED": c_padded, "O_PADDED": o_padded, "DOUBLED_T": scale[0] == 2,
            "HAS_BIAS": bias is not None, "ZEROS": zeros,
            "GROUP": 1 if shortcut is None else shortcut.group, "DESCRIPTORS": config.descriptors,
            **absent,
            "BLOCK_M": config.block_m, "BLOCK_N": config.block_n, "BLOCK_K": config.block_k,
        },
        num_warps=config.num_warps,
        num_stages=config.num_stages,
    )  # fmt: skip
