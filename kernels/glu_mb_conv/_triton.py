"""glu_mb_conv on CUDA: torch's products, and Triton kernels for what lies between them.

walk.py goes through the clip in slabs of frames, which bounds the 2·M channels in memory.
``activate_kernel`` adds the bias to a slab's products and applies SiLU: once, where every element
is read for 27 taps. The result lies in a ring [2, places, rows, W, m] in fp32, frame t in place
t % places. ``gate_kernel``, one program per (tile of positions, tile of channels), convolves value
and gate and writes their product; the taps find the tile's neighbours in the caches.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from ..common.launch import Launch, cdiv
from . import walk
from .launch import CHANNELS, SLAB, STRIP, pick


@triton.jit
def activate_kernel(
    products_ptr, ring_ptr, bias_ptr, P, C, first_position, stride_half, bias_stride_half,
    BLOCK_P: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """Put h of P positions of products, [2, P, C], into the ring from first_position on."""
    pid_p = tl.program_id(0).to(tl.int64)
    pid_c = tl.program_id(1).to(tl.int64)
    pid_half = tl.program_id(2).to(tl.int64)
    offs_p = pid_p * BLOCK_P + tl.arange(0, BLOCK_P)
    offs_c = pid_c * BLOCK_C + tl.arange(0, BLOCK_C)
    mask_c = offs_c < C
    mask = (offs_p < P)[:, None] & mask_c[None, :]
    at = offs_p[:, None] * C + offs_c[None, :]
    b_bias = tl.load(bias_ptr + pid_half * bias_stride_half + offs_c, mask=mask_c, other=0.0)
    b_x = tl.load(products_ptr + pid_half * P * C + at, mask=mask, other=0.0).to(tl.float32)
    b_x += b_bias.to(tl.float32)[None, :]
    at += first_position * C + pid_half * stride_half
    tl.store(ring_ptr + at, b_x / (1.0 + tl.exp(-b_x)), mask=mask)


@triton.jit
def gate_kernel(
    ring_ptr, taps_ptr, bias_ptr, gated_ptr, C, M, first_frame, T, places, rows, first_row,
    out_rows, W, P, stride_half,
    BLOCK_P: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """P positions [frames, out_rows, W] of gated [P, M], the C channels that the ring holds."""
    pid_p = tl.program_id(0).to(tl.int64)
    pid_c = tl.program_id(1).to(tl.int64)
    offs_p = pid_p * BLOCK_P + tl.arange(0, BLOCK_P)
    offs_c = pid_c * BLOCK_C + tl.arange(0, BLOCK_C)
    mask_p = offs_p < P
    mask_c = offs_c < C
    offs_w = offs_p % W
    offs_h = offs_p // W % out_rows + first_row
    offs_t = offs_p // W // out_rows + first_frame
    b_value = tl.zeros([BLOCK_P, BLOCK_C], dtype=tl.float32)
    b_value += tl.load(bias_ptr + offs_c, mask=mask_c, other=0.0).to(tl.float32)[None, :]
    b_gate = tl.zeros([BLOCK_P, BLOCK_C], dtype=tl.float32)
    b_gate += tl.load(bias_ptr + M + offs_c, mask=mask_c, other=0.0).to(tl.float32)[None, :]
    for row in range(0, 9):
        t = offs_t + row // 3 - 1
        h = offs_h + row % 3 - 1
        mask_row = mask_p & (t >= 0) & (t < T) & (h >= 0) & (h < rows)
        # Where t is -1 nothing is read, whatever the place.
        from_row = ((t % places) * rows + h) * W
        for tap in tl.static_range(3):
            w = offs_w + (tap - 1)
            mask = (mask_row & (w >= 0) & (w < W))[:, None] & mask_c[None, :]
            at = ring_ptr + (from_row + w)[:, None] * C + offs_c[None, :]
            at_tap = taps_ptr + (row * 3 + tap) * 2 * M + offs_c
            b_tap = tl.load(at_tap, mask=mask_c, other=0.0).to(tl.float32)
            b_value += tl.load(at, mask=mask, other=0.0) * b_tap[None, :]
            b_tap = tl.load(at_tap + M, mask=mask_c, other=0.0).to(tl.float32)
            b_gate += tl.load(at + stride_half, mask=mask, other=0.0) * b_tap[None, :]
    b_y = b_value * b_gate / (1.0 + tl.exp(-b_gate))
    at = gated_ptr + offs_p[:, None] * M + offs_c[None, :]
    mask = mask_p[:, None] & mask_c[None, :]
    tl.store(at, b_y.to(gated_ptr.dtype.element_ty), mask=mask)


def forward(
    x: torch.Tensor, inverted_weight: torch.Tensor, inverted_bias: torch.Tensor,
    depth_weight: torch.Tensor, depth_bias: torch.Tensor, point_weight: torch.Tensor,
) -> torch.Tensor:  # fmt: skip
    """Run the forward as the op's schema has it."""
    # Taps of neighbouring channels next to each other.
    taps = depth_weight.flatten(1).t().contiguous()
    inverted_bias, depth_bias = inverted_bias.contiguous(), depth_bias.contiguous()

    def gate(step: walk.Step, gated: torch.Tensor) -> None:
        plan_activate(step, inverted_bias).run()
        plan_gate(step, taps, depth_bias, gated).run()

    size = (x.shape[2], x.shape[3], x.shape[4])
    plan = walk.choose(size, point_weight.shape[1], SLAB, STRIP, CHANNELS)
    return walk.run(x, inverted_weight, point_weight, plan, gate)


def plan_activate(step: walk.Step, bias: torch.Tensor) -> Launch:
    """Plan what makes h of a step's new products."""
    _, places, rows, columns, channels = step.ring.shape
    config = pick(channels)
    first, frames = step.new_frames
    positions = frames * rows * columns
    return Launch(
        kernel=activate_kernel,
        grid=(cdiv(positions, config.block_p), cdiv(channels, config.block_c), 2),
        arguments={
            "products_ptr": step.products,
            "ring_ptr": step.ring,
            "bias_ptr": bias[step.first_channel :],
            "P": positions,
            "C": channels,
            "first_position": first % places * rows * columns,
            "stride_half": step.ring.stride(0),
            "bias_stride_half": bias.numel() // 2,
        },
        constants={"BLOCK_P": config.block_p, "BLOCK_C": config.block_c},
        num_warps=config.num_warps,
    )


def plan_gate(
    step: walk.Step, taps: torch.Tensor, bias: torch.Tensor, gated: torch.Tensor
) -> Launch:
    """Plan the gated channels of the frames that a step gives out; taps is [27, 2·M]."""
    _, places, rows, columns, channels = step.ring.shape
    config = pick(channels)
    positions = step.out_frames[1] * step.out_rows[1] * columns
    return Launch(
        kernel=gate_kernel,
        grid=(cdiv(positions, config.block_p), cdiv(channels, config.block_c)),
        arguments={
            "ring_ptr": step.ring,
            "taps_ptr": taps[0, step.first_channel :],
            "bias_ptr": bias[step.first_channel :],
            "gated_ptr": gated[..., step.first_channel :],
            "C": channels,
            "M": gated.shape[-1],
            "first_frame": step.out_frames[0],
            "T": step.num_frames,
            "places": places,
            "rows": rows,
            "first_row": step.out_rows[0],
            "out_rows": step.out_rows[1],
            "W": columns,
            "P": positions,
            "stride_half": step.ring.stride(0),
        },
        constants={"BLOCK_P": config.block_p, "BLOCK_C": config.block_c},
        num_warps=config.num_warps,
    )
