"""Triton kernel of frame_causal_attention: o = softmax(q k^T D^-0.5) v over the frames up to one's own.

Layout: q, k, v [B, L, D], any strides; L = num_frames * tokens per frame; o contiguous. One head.
Parallel: one program per tile of queries of one frame, whose keys end at a scalar bound: no mask tensor, a
comparison in the last block of keys only. The tiles with the most keys, those of the last frames, start
first, so that the device does not end on a few long programs.
Bytes: reads q once, and k and v once per tile of queries (through L2); writes o.
Online softmax in fp32 (Milakov and Gimelshein, 2018), in powers of two; p is rounded to v's dtype
for the second product, both products accumulate in fp32.
"""

from __future__ import annotations

import math

import torch
import triton
import triton.language as tl

from ..common.launch import Launch, cdiv, strides
from .launch import Config, Problem, capability, pick


@triton.jit
def forward_kernel(
    q_ptr, k_ptr, v_ptr, o_ptr, B, F, P, scale,
    q_stride_b, q_stride_l, q_stride_d,
    k_stride_b, k_stride_l, k_stride_d,
    v_stride_b, v_stride_l, v_stride_d,
    D: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_Q: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    num_tiles = tl.cdiv(P, BLOCK_Q)
    pid = tl.num_programs(0) - 1 - tl.program_id(0)
    pid_f = (pid // (num_tiles * B)).to(tl.int64)
    pid_b = (pid // num_tiles % B).to(tl.int64)
    offs_p = pid % num_tiles * BLOCK_Q + tl.arange(0, BLOCK_Q)
    offs_n = tl.arange(0, BLOCK_N)
    offs_d = tl.arange(0, BLOCK_D)
    mask_d = offs_d < D
    mask_q = (offs_p < P)[:, None] & mask_d[None, :]
    q_ptr += pid_b * q_stride_b + pid_f * P * q_stride_l
    at_q = offs_p[:, None] * q_stride_l + offs_d[None, :] * q_stride_d
    b_q = tl.load(q_ptr + at_q, mask=mask_q, other=0.0)
    # Offsets inside a block fit 32 bits (see launch.why_not); the block's start is a 64-bit scalar.
    at_k = offs_d[:, None] * k_stride_d + offs_n[None, :] * k_stride_l
    at_v = offs_n[:, None] * v_stride_l + offs_d[None, :] * v_stride_d
    k_ptr += pid_b * k_stride_b
    v_ptr += pid_b * v_stride_b
    b_o = tl.zeros([BLOCK_Q, BLOCK_D], dtype=tl.float32)
    b_max = tl.full([BLOCK_Q], float("-inf"), dtype=tl.float32)
    b_sum = tl.zeros([BLOCK_Q], dtype=tl.float32)
    num_keys = (pid_f + 1) * P
    for start in range(0, num_keys, BLOCK_N):
        mask_n = offs_n < num_keys - start
        b_k = tl.load(
            k_ptr + start * k_stride_l + at_k, mask=mask_d[:, None] & mask_n[None, :], other=0.0
        )
        b_s = tl.dot(b_q, b_k, input_precision="ieee") * scale
        b_s = tl.where(mask_n[None, :], b_s, float("-inf"))
        b_new_max = tl.maximum(b_max, tl.max(b_s, axis=1))
        b_p = tl.exp2(b_s - b_new_max[:, None])
        b_shrink = tl.exp2(b_max - b_new_max)
        b_sum = b_sum * b_shrink + tl.sum(b_p, axis=1)
        b_max = b_new_max
        b_v = tl.load(
            v_ptr + start * v_stride_l + at_v, mask=mask_n[:, None] & mask_d[None, :], other=0.0
        )
        b_o = tl.dot(b_p.to(b_v.dtype), b_v, b_o * b_shrink[:, None], input_precision="ieee")
    b_o = b_o / b_sum[:, None]
    o_ptr += (pid_b * F + pid_f) * P * D
    tl.store(
        o_ptr + offs_p[:, None] * D + offs_d[None, :],
        b_o.to(o_ptr.dtype.element_ty),
        mask=mask_q,
    )


def forward(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, num_frames: int) -> torch.Tensor:
    """Run the forward as the op's schema has it."""
    o = torch.empty(q.shape, dtype=q.dtype, device=q.device)
    problem = Problem(head_dim=q.shape[2], element_size=q.element_size())
    plan_forward(q, k, v, num_frames, o, pick(problem, capability(q.device))).run()
    return o


def plan_forward(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    num_frames: int,
    o: torch.Tensor,
    config: Config,
) -> Launch:
    """Plan o = frame_causal_attention(q, k, v, num_frames); o is contiguous."""
    batch, length, head_dim = q.shape
    per_frame = length // num_frames
    arguments = {
        "q_ptr": q, "k_ptr": k, "v_ptr": v, "o_ptr": o, "B": batch, "F": num_frames, "P": per_frame,
        "scale": math.log2(math.e) / math.sqrt(head_dim),
    }  # fmt: skip
    arguments |= strides("q", q, "bld") | strides("k", k, "bld") | strides("v", v, "bld")
    return Launch(
        kernel=forward_kernel,
        grid=(batch * num_frames * cdiv(per_frame, config.block_q),),
        arguments=arguments,
        constants={
            "D": head_dim,
            "BLOCK_D": config.block_d,
            "BLOCK_Q": config.block_q,
            "BLOCK_N": config.block_n,
        },
        num_warps=config.num_warps,
        num_stages=config.num_stages,
    )
