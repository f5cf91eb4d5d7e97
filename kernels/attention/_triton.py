"""Triton kernel of attention, dense or up to one's frame: y = softmax(q k^T / sqrt(D)) v.

Layout: q, k, v [B, L, N, D], any strides; y [B, L, N, D] and lse [B, N, L] dense.
Parallel: one program per tile of queries and head. Tiles of a head are neighbours, so that its keys
and values stay in L2; those with the most keys start first, so that the device does not end on a
few long programs.
Bytes: reads q once and, per tile of queries, k and v up to the bound (through L2); writes y and
lse.
Online softmax (Milakov and Gimelshein, 2018) in fp32 and powers of two. Both products accumulate
in fp32; the weights are rounded to v's dtype for the second.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from ..common.launch import Launch, cdiv
from ._triton_backward import backward
from ._triton_tiles import Frames, choice, load_tile, locate, plan, read, store_tile
from .launch import Config

__all__ = ["attend", "backward", "forward", "plan_forward"]


@triton.jit
def attend_block(
    b_q, b_k, b_v, b_y, b_max, b_sum, num_valid, scale,
    MASKED: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """One step of the online softmax; maxima are in powers of two."""
    b_s = tl.dot(b_q, b_k.T, input_precision="ieee")
    if MASKED:
        b_s = tl.where((tl.arange(0, BLOCK_K) < num_valid)[None, :], b_s, float("-inf"))
    b_new_max = tl.maximum(b_max, tl.max(b_s, axis=1) * scale)
    # Scaled and shifted by one fused multiply-add.
    b_p = tl.exp2(b_s * scale - b_new_max[:, None])
    b_shrink = tl.exp2(b_max - b_new_max)
    b_sum = b_sum * b_shrink + tl.sum(b_p, axis=1)
    b_y = tl.dot(b_p.to(b_v.dtype), b_v, b_y * b_shrink[:, None], input_precision="ieee")
    return b_y, b_new_max, b_sum


@triton.jit
def forward_kernel(
    q, k, v, y_ptr, lse_ptr, N, F, P, K, scale,
    q_stride_b, q_stride_l, q_stride_n, q_stride_d,
    k_stride_b, k_stride_l, k_stride_n, k_stride_d,
    v_stride_b, v_stride_l, v_stride_n, v_stride_d,
    UNIT: tl.constexpr, DESCRIPTORS: tl.constexpr, D: tl.constexpr,
    BLOCK_D: tl.constexpr, BLOCK_Q: tl.constexpr, BLOCK_K: tl.constexpr,
    PEEL: tl.constexpr, HOIST: tl.constexpr,
):  # fmt: skip
    pid_b, pid_n, pid_f, start_q, end_q = locate(N, F, P, BLOCK_Q, True)
    num_keys = K + pid_f * P
    b_q = load_tile(
        q, pid_b, pid_n, start_q, end_q, q_stride_b, q_stride_l, q_stride_n, q_stride_d,
        UNIT, DESCRIPTORS, D, BLOCK_Q, BLOCK_D,
    )  # fmt: skip
    b_y = tl.zeros([BLOCK_Q, BLOCK_D], dtype=tl.float32)
    b_max = tl.full([BLOCK_Q], float("-inf"), dtype=tl.float32)
    b_sum = tl.zeros([BLOCK_Q], dtype=tl.float32)
    end_whole = num_keys
    if PEEL:
        end_whole = num_keys // BLOCK_K * BLOCK_K
    for start_k in tl.range(0, end_whole, BLOCK_K, disable_licm=not HOIST):
        b_k = load_tile(
            k, pid_b, pid_n, start_k, num_keys, k_stride_b, k_stride_l, k_stride_n, k_stride_d,
            UNIT, DESCRIPTORS, D, BLOCK_K, BLOCK_D,
        )  # fmt: skip
        b_v = load_tile(
            v, pid_b, pid_n, start_k, num_keys, v_stride_b, v_stride_l, v_stride_n, v_stride_d,
            UNIT, DESCRIPTORS, D, BLOCK_K, BLOCK_D,
        )  # fmt: skip
        b_y, b_max, b_sum = attend_block(
            b_q, b_k, b_v, b_y, b_max, b_sum, num_keys - start_k, scale, not PEEL, BLOCK_K
        )
    if end_whole < num_keys:
        b_k = load_tile(
            k, pid_b, pid_n, end_whole, num_keys, k_stride_b, k_stride_l, k_stride_n, k_stride_d,
            UNIT, DESCRIPTORS, D, BLOCK_K, BLOCK_D,
        )  # fmt: skip
        b_v = load_tile(
            v, pid_b, pid_n, end_whole, num_keys, v_stride_b, v_stride_l, v_stride_n, v_stride_d,
            UNIT, DESCRIPTORS, D, BLOCK_K, BLOCK_D,
        )  # fmt: skip
        b_y, b_max, b_sum = attend_block(
            b_q, b_k, b_v, b_y, b_max, b_sum, num_keys - end_whole, scale, True, BLOCK_K
        )
    offs_q = start_q + tl.arange(0, BLOCK_Q)
    mask_q = offs_q < end_q
    store_tile(
        y_ptr, b_y / b_sum[:, None], pid_b, pid_n, start_q, end_q, N, F * P, D, BLOCK_Q, BLOCK_D
    )
    b_lse = (b_max + tl.log2(b_sum)) * 0.6931471805599453
    at_lse = (pid_b * N + pid_n).to(tl.int64) * (F * P)
    tl.store(lse_ptr + at_lse + offs_q, b_lse, mask=mask_q)


def forward(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Run the forward as the op's schema has it: the output and the log-sum-exp."""
    return attend(q, k, v, Frames(1, q.shape[1], k.shape[1]))


def attend(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, frames: Frames
) -> tuple[torch.Tensor, torch.Tensor]:
    """Attend to the keys that the frames see."""
    batch, length, num_heads, _ = q.shape
    y = torch.empty(q.shape, dtype=q.dtype, device=q.device)
    lse = torch.empty((batch, num_heads, length), dtype=torch.float32, device=q.device)
    if y.numel() > 0:
        config = choice("forward", q, k, v)
        plan_forward(q, k, v, frames, y, lse, config).run()
    return y, lse


def plan_forward(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, frames: Frames,
    y: torch.Tensor, lse: torch.Tensor, config: Config,
) -> Launch:  # fmt: skip
    """Plan y and lse, both contiguous."""
    arguments = {"y_ptr": y, "lse_ptr": lse} | read(config, "q", q, config.block_q)
    for name, x in (("k", k), ("v", v)):
        arguments |= read(config, name, x, config.block_k)
    tiles = cdiv(frames.queries, config.block_q)
    return plan(
        forward_kernel,
        arguments,
        q,
        frames,
        tiles,
        config,
        {"PEEL": config.peel, "HOIST": config.hoist},
    )
