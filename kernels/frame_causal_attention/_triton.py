"""Triton kernel of frame_causal_attention: y = softmax(q k^T / sqrt(D)) v up to one's frame.

Layout: q, k, v [B, L, D], any strides; L = F frames of P tokens; y [B, L, D] and lse [B, L] dense.
Parallel: one program per tile of queries of one frame. Its keys end at a scalar bound, so that no
mask exists but the comparison in the last block. Frames with the most keys start first, so that
the device does not end on a few long programs.
Bytes: reads q once and, per tile of queries, k and v up to the frame's end (through L2); writes y
and lse.
Online softmax (Milakov and Gimelshein, 2018) in fp32 and powers of two. Both products accumulate
in fp32; the weights are rounded to v's dtype for the second.
"""

from __future__ import annotations

import math

import torch
import triton
import triton.language as tl
from triton.tools.tensor_descriptor import TensorDescriptor

from ..common.availability import capability
from ..common.launch import Launch, cdiv, strides
from .launch import Config, Problem, describable, pick


@triton.jit
def forward_kernel(
    q, k, v, y_ptr, lse_ptr, P, scale,
    q_stride_l, q_stride_d, k_stride_l, k_stride_d, v_stride_l, v_stride_d,
    D: tl.constexpr, DESCRIPTORS: tl.constexpr,
    BLOCK_D: tl.constexpr, BLOCK_Q: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    num_tiles = tl.cdiv(P, BLOCK_Q)
    pid = tl.num_programs(0) - 1 - tl.program_id(0)
    pid_f = pid // num_tiles
    start_p = pid % num_tiles * BLOCK_Q
    start_q = pid_f * P + start_p
    num_keys = (pid_f + 1) * P
    offs_q = tl.arange(0, BLOCK_Q)
    offs_n = tl.arange(0, BLOCK_N)
    offs_d = tl.arange(0, BLOCK_D)
    mask_d = offs_d < D
    mask_q = start_p + offs_q < P
    if DESCRIPTORS:
        b_q = q.load([start_q, 0])
    else:
        # Offsets inside a block fit 32 bits (see launch.why_not); its start is a pointer.
        at_k = offs_d[:, None] * k_stride_d + offs_n[None, :] * k_stride_l
        at_v = offs_n[:, None] * v_stride_l + offs_d[None, :] * v_stride_d
        at_q = offs_q[:, None] * q_stride_l + offs_d[None, :] * q_stride_d
        at_q += start_q.to(tl.int64) * q_stride_l
        b_q = tl.load(q + at_q, mask=mask_q[:, None] & mask_d[None, :], other=0.0)
    b_y = tl.zeros([BLOCK_Q, BLOCK_D], dtype=tl.float32)
    b_max = tl.full([BLOCK_Q], float("-inf"), dtype=tl.float32)
    b_sum = tl.zeros([BLOCK_Q], dtype=tl.float32)
    for start_n in range(0, num_keys, BLOCK_N):
        mask_n = offs_n < num_keys - start_n
        if DESCRIPTORS:
            b_k = k.load([start_n, 0]).T
        else:
            b_k = tl.load(k + at_k, mask=mask_d[:, None] & mask_n[None, :], other=0.0)
            k += BLOCK_N * k_stride_l
        b_s = tl.dot(b_q, b_k, input_precision="ieee") * scale
        b_s = tl.where(mask_n[None, :], b_s, float("-inf"))
        b_new_max = tl.maximum(b_max, tl.max(b_s, axis=1))
        b_p = tl.exp2(b_s - b_new_max[:, None])
        b_shrink = tl.exp2(b_max - b_new_max)
        b_sum = b_sum * b_shrink + tl.sum(b_p, axis=1)
        b_max = b_new_max
        if DESCRIPTORS:
            b_v = v.load([start_n, 0])
        else:
            b_v = tl.load(v + at_v, mask=mask_n[:, None] & mask_d[None, :], other=0.0)
            v += BLOCK_N * v_stride_l
        b_y = tl.dot(b_p.to(b_v.dtype), b_v, b_y * b_shrink[:, None], input_precision="ieee")
    b_y = b_y / b_sum[:, None]
    at_y = (start_q + offs_q).to(tl.int64)[:, None] * D + offs_d[None, :]
    b_y = b_y.to(y_ptr.dtype.element_ty)
    tl.store(y_ptr + at_y, b_y, mask=mask_q[:, None] & mask_d[None, :])
    b_lse = (b_max + tl.log2(b_sum)) * 0.6931471805599453
    tl.store(lse_ptr + start_q + offs_q, b_lse, mask=mask_q)


def forward(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, num_frames: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Run the forward as the op's schema has it: the output and the log-sum-exp."""
    y = torch.empty(q.shape, dtype=q.dtype, device=q.device)
    lse = torch.empty(q.shape[:2], dtype=torch.float32, device=q.device)
    if y.numel() == 0:
        return y, lse
    problem = Problem(
        head_dim=q.shape[2],
        half_precision=q.element_size() == 2,
        describable=all(map(describable, (q, k, v))),
    )
    config = pick(problem, capability(q.device))
    for b in range(q.shape[0]):
        plan_forward(q[b], k[b], v[b], num_frames, y[b], lse[b], config).run()
    return y, lse


def plan_forward(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, num_frames: int,
    y: torch.Tensor, lse: torch.Tensor, config: Config,
) -> Launch:  # fmt: skip
    """Plan one batch item: q, k, v, y [L, D] and lse [L]; y is contiguous."""
    length, head_dim = q.shape
    per_frame = length // num_frames
    rows = {"q": config.block_q, "k": config.block_n, "v": config.block_n}
    arguments = {"q": q, "k": k, "v": v}
    if config.descriptors:
        for name, x in arguments.items():
            arguments[name] = TensorDescriptor.from_tensor(x, [rows[name], config.block_d])
    arguments |= strides("q", q, "ld") | strides("k", k, "ld") | strides("v", v, "ld")
    arguments |= {"y_ptr": y, "lse_ptr": lse, "P": per_frame}
    arguments["scale"] = math.log2(math.e) / math.sqrt(head_dim)
    return Launch(
        kernel=forward_kernel,
        grid=(num_frames * cdiv(per_frame, config.block_q),),
        arguments=arguments,
        constants={
            "D": head_dim,
            "DESCRIPTORS": config.descriptors,
            "BLOCK_D": config.block_d,
            "BLOCK_Q": config.block_q,
            "BLOCK_N": config.block_n,
        },
        num_warps=config.num_warps,
        num_stages=config.num_stages,
    )
