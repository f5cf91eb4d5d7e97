"""Triton kernels of the gradients of attention, from its output and log-sum-exp.

With p = softmax(s), s = q k^T / sqrt(D):  dv = p^T dy,  ds = p (dy v^T - sum(dy y)),
dq = ds k / sqrt(D),  dk = ds^T q / sqrt(D).
Layout: inputs [B, L, N, D], any strides; gradients dense; lse and delta = sum(dy y) fp32 [B, N, L].
Parallel: `delta_kernel` one program per tile of queries; `query_gradient_kernel` the same, walking
over the keys that the tile sees; `key_gradient_kernel` one program per tile of keys, walking over
the queries that see it. Each sum has one owner and one order: no atomics.
Bytes: per tile, k and v (q and dy) of its head through L2; the weights are computed twice, seven
products in all, and never reach memory.
The weights and ds are rounded to the inputs' dtype for the products that follow, as in
FlashAttention (Dao et al., 2022, algorithm 4); all sums are fp32.
"""

from __future__ import annotations

import math

import torch
import triton
import triton.language as tl

from ..common.launch import Launch, cdiv
from ._triton_tiles import (
    Frames,
    choice,
    load_tile,
    locate,
    plan,
    read,
    store_tile,
    stride_arguments,
)
from .launch import Config, stride_unit

BLOCK_DELTA_ELEMENTS = 4096
MAX_BLOCK_DELTA = 64


@triton.jit
def delta_kernel(
    dy, y, delta_ptr, N, L,
    dy_stride_b, dy_stride_l, dy_stride_n, dy_stride_d,
    y_stride_b, y_stride_l, y_stride_n, y_stride_d,
    UNIT: tl.constexpr, D: tl.constexpr, BLOCK_L: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """delta[b, n, l] = sum over d of dy * y, in fp32."""
    pid_b, pid_n, _, start, end = locate(N, 1, L, BLOCK_L, False)
    b_dy = load_tile(
        dy, pid_b, pid_n, start, end, dy_stride_b, dy_stride_l, dy_stride_n, dy_stride_d,
        UNIT, False, D, BLOCK_L, BLOCK_D,
    )  # fmt: skip
    b_y = load_tile(
        y, pid_b, pid_n, start, end, y_stride_b, y_stride_l, y_stride_n, y_stride_d,
        UNIT, False, D, BLOCK_L, BLOCK_D,
    )  # fmt: skip
    b_delta = tl.sum(b_dy.to(tl.float32) * b_y.to(tl.float32), axis=1)
    offs_l = start + tl.arange(0, BLOCK_L)
    at = (pid_b * N + pid_n).to(tl.int64) * L
    tl.store(delta_ptr + at + offs_l, b_delta, mask=offs_l < end)


@triton.jit
def query_step(
    b_dq, b_q, b_dy, b_k, b_v, b_lse, b_delta, num_valid, scale,
    MASKED: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """Add a block of keys' share to the gradient of a tile of queries; lse in powers of two."""
    b_s = tl.dot(b_q, b_k.T, input_precision="ieee")
    if MASKED:
        b_s = tl.where((tl.arange(0, BLOCK_K) < num_valid)[None, :], b_s, float("-inf"))
    b_p = tl.exp2(b_s * scale - b_lse[:, None])
    b_dp = tl.dot(b_dy, b_v.T, input_precision="ieee")
    b_ds = (b_p * (b_dp - b_delta[:, None])).to(b_k.dtype)
    return tl.dot(b_ds, b_k, b_dq, input_precision="ieee")


@triton.jit
def query_gradient_kernel(
    dy, q, k, v, lse_ptr, delta_ptr, dq_ptr, N, F, P, K, scale, root_d,
    dy_stride_b, dy_stride_l, dy_stride_n, dy_stride_d,
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
    b_dy = load_tile(
        dy, pid_b, pid_n, start_q, end_q, dy_stride_b, dy_stride_l, dy_stride_n, dy_stride_d,
        UNIT, DESCRIPTORS, D, BLOCK_Q, BLOCK_D,
    )  # fmt: skip
    offs_q = start_q + tl.arange(0, BLOCK_Q)
    at_row = (pid_b * N + pid_n).to(tl.int64) * (F * P)
    b_lse = tl.load(lse_ptr + at_row + offs_q, mask=offs_q < end_q, other=float("inf"))
    b_lse = b_lse * 1.4426950408889634
    b_delta = tl.load(delta_ptr + at_row + offs_q, mask=offs_q < end_q, other=0.0)
    b_dq = tl.zeros([BLOCK_Q, BLOCK_D], dtype=tl.float32)
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
        b_dq = query_step(
            b_dq, b_q, b_dy, b_k, b_v, b_lse, b_delta, num_keys - start_k, scale, not PEEL, BLOCK_K
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
        b_dq = query_step(
            b_dq, b_q, b_dy, b_k, b_v, b_lse, b_delta, num_keys - end_whole, scale, True, BLOCK_K
        )
    store_tile(dq_ptr, b_dq * root_d, pid_b, pid_n, start_q, end_q, N, F * P, D, BLOCK_Q, BLOCK_D)


@triton.jit
def key_step_tall(b_dk, b_dv, b_k, b_v, b_q, b_dy, b_lse, b_delta, scale):
    """Add a block of queries' share to sums [keys, channels]: the weights stay in registers."""
    b_s = tl.dot(b_k, b_q.T, input_precision="ieee")
    b_p = tl.exp2(b_s * scale - b_lse[None, :])
    b_dv = tl.dot(b_p.to(b_dy.dtype), b_dy, b_dv, input_precision="ieee")
    b_dp = tl.dot(b_v, b_dy.T, input_precision="ieee")
    b_ds = (b_p * (b_dp - b_delta[None, :])).to(b_q.dtype)
    return tl.dot(b_ds, b_q, b_dk, input_precision="ieee"), b_dv


@triton.jit
def key_step_wide(b_dk, b_dv, b_k, b_v, b_q, b_dy, b_lse, b_delta, scale):
    """The same for sums [channels, keys]: the many channels fill the matrix units' rows."""
    b_s = tl.dot(b_q, b_k.T, input_precision="ieee")
    b_p = tl.exp2(b_s * scale - b_lse[:, None])
    b_dv = tl.dot(b_dy.T, b_p.to(b_dy.dtype), b_dv, input_precision="ieee")
    b_dp = tl.dot(b_dy, b_v.T, input_precision="ieee")
    b_ds = (b_p * (b_dp - b_delta[:, None])).to(b_q.dtype)
    return tl.dot(b_q.T, b_ds, b_dk, input_precision="ieee"), b_dv


@triton.jit
def key_gradient_kernel(
    dy, q, k, v, lse_ptr, delta_ptr, dk_ptr, dv_ptr, N, F, P, K, scale, root_d,
    dy_stride_b, dy_stride_l, dy_stride_n, dy_stride_d,
    q_stride_b, q_stride_l, q_stride_n, q_stride_d,
    k_stride_b, k_stride_l, k_stride_n, k_stride_d,
    v_stride_b, v_stride_l, v_stride_n, v_stride_d,
    UNIT: tl.constexpr, DESCRIPTORS: tl.constexpr, D: tl.constexpr,
    BLOCK_D: tl.constexpr, BLOCK_Q: tl.constexpr, BLOCK_K: tl.constexpr,
    HOIST: tl.constexpr, TALL: tl.constexpr,
):  # fmt: skip
    # Keys come in frames of K: dense attention has one, and where there are more, K = P.
    pid_b, pid_n, pid_f, start_k, end_k = locate(N, F, K, BLOCK_K, False)
    num_queries = F * P
    b_k = load_tile(
        k, pid_b, pid_n, start_k, end_k, k_stride_b, k_stride_l, k_stride_n, k_stride_d,
        UNIT, DESCRIPTORS, D, BLOCK_K, BLOCK_D,
    )  # fmt: skip
    b_v = load_tile(
        v, pid_b, pid_n, start_k, end_k, v_stride_b, v_stride_l, v_stride_n, v_stride_d,
        UNIT, DESCRIPTORS, D, BLOCK_K, BLOCK_D,
    )  # fmt: skip
    if TALL:
        b_dk = tl.zeros([BLOCK_K, BLOCK_D], dtype=tl.float32)
    else:
        b_dk = tl.zeros([BLOCK_D, BLOCK_K], dtype=tl.float32)
    b_dv = b_dk
    at_row = (pid_b * N + pid_n).to(tl.int64) * num_queries
    offs_q = tl.arange(0, BLOCK_Q)
    for start_q in tl.range(pid_f * P, num_queries, BLOCK_Q, disable_licm=not HOIST):
        b_q = load_tile(
            q, pid_b, pid_n, start_q, num_queries, q_stride_b, q_stride_l, q_stride_n, q_stride_d,
            UNIT, DESCRIPTORS, D, BLOCK_Q, BLOCK_D,
        )  # fmt: skip
        b_dy = load_tile(
            dy, pid_b, pid_n, start_q, num_queries,
            dy_stride_b, dy_stride_l, dy_stride_n, dy_stride_d,
            UNIT, DESCRIPTORS, D, BLOCK_Q, BLOCK_D,
        )  # fmt: skip
        # Past the last query the weights become zero.
        mask_q = offs_q < num_queries - start_q
        b_lse = tl.load(lse_ptr + at_row + start_q + offs_q, mask=mask_q, other=float("inf"))
        b_lse = b_lse * 1.4426950408889634
        b_delta = tl.load(delta_ptr + at_row + start_q + offs_q, mask=mask_q, other=0.0)
        if TALL:
            b_dk, b_dv = key_step_tall(b_dk, b_dv, b_k, b_v, b_q, b_dy, b_lse, b_delta, scale)
        else:
            b_dk, b_dv = key_step_wide(b_dk, b_dv, b_k, b_v, b_q, b_dy, b_lse, b_delta, scale)
    b_dk = b_dk * root_d
    if not TALL:
        b_dk = b_dk.T
        b_dv = b_dv.T
    store_tile(dk_ptr, b_dk, pid_b, pid_n, start_k, end_k, N, F * K, D, BLOCK_K, BLOCK_D)
    store_tile(dv_ptr, b_dv, pid_b, pid_n, start_k, end_k, N, F * K, D, BLOCK_K, BLOCK_D)


def backward(
    grad: torch.Tensor, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, out: torch.Tensor,
    lse: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:  # fmt: skip
    """Run the backward as the op's schema has it: the gradients of q, k and v."""
    return gradients(grad, q, k, v, out, lse, Frames(1, q.shape[1], k.shape[1]))


def gradients(
    grad: torch.Tensor, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, out: torch.Tensor,
    lse: torch.Tensor, frames: Frames,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:  # fmt: skip
    """The gradients of `attend`; lse [B, N, L] is contiguous."""
    dq, dk, dv = (torch.empty(x.shape, dtype=x.dtype, device=x.device) for x in (q, k, v))
    if q.numel() == 0:
        return dq, dk.zero_(), dv.zero_()
    delta = torch.empty(lse.shape, dtype=torch.float32, device=q.device)
    plan_delta(grad, out, delta).run()
    inputs = (grad, q, k, v, lse, delta)
    config = choice("query_gradient", q, k, v, grad)
    plan_query_gradient(*inputs, frames, dq, config).run()
    config = choice("key_gradient", q, k, v, grad)
    plan_key_gradient(*inputs, frames, dk, dv, config).run()
    return dq, dk, dv


def plan_delta(grad: torch.Tensor, out: torch.Tensor, delta: torch.Tensor) -> Launch:
    """Plan delta [B, N, L] = sum over channels of grad * out."""
    batch, length, num_heads, head_dim = out.shape
    block_d = max(16, triton.next_power_of_2(head_dim))
    block_l = min(MAX_BLOCK_DELTA, BLOCK_DELTA_ELEMENTS // block_d)
    unit = stride_unit(grad, out)
    arguments = {"delta_ptr": delta, "N": num_heads, "L": length}
    for name, x in (("dy", grad), ("y", out)):
        arguments |= {name: x} | stride_arguments(name, x, unit)
    return Launch(
        kernel=delta_kernel,
        grid=(cdiv(length, block_l) * num_heads * batch,),
        arguments=arguments,
        constants={"UNIT": unit, "D": head_dim, "BLOCK_L": block_l, "BLOCK_D": block_d},
    )


def plan_query_gradient(
    grad: torch.Tensor, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, lse: torch.Tensor,
    delta: torch.Tensor, frames: Frames, dq: torch.Tensor, config: Config,
) -> Launch:  # fmt: skip
    """Plan dq, contiguous."""
    arguments = _inputs(grad, q, k, v, lse, delta, config) | {"dq_ptr": dq}
    tiles = cdiv(frames.queries, config.block_q)
    return plan(
        query_gradient_kernel,
        arguments,
        q,
        frames,
        tiles,
        config,
        {"PEEL": config.peel, "HOIST": config.hoist},
    )


def plan_key_gradient(
    grad: torch.Tensor, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, lse: torch.Tensor,
    delta: torch.Tensor, frames: Frames, dk: torch.Tensor, dv: torch.Tensor, config: Config,
) -> Launch:  # fmt: skip
    """Plan dk and dv, contiguous."""
    arguments = _inputs(grad, q, k, v, lse, delta, config) | {"dk_ptr": dk, "dv_ptr": dv}
    tiles = cdiv(frames.keys, config.block_k)
    return plan(
        key_gradient_kernel,
        arguments,
        q,
        frames,
        tiles,
        config,
        {"HOIST": config.hoist, "TALL": config.tall},
    )


def _inputs(grad, q, k, v, lse, delta, config: Config) -> dict:
    arguments = {"lse_ptr": lse, "delta_ptr": delta, "root_d": 1 / math.sqrt(q.shape[3])}
    for name, x in (("dy", grad), ("q", q)):
        arguments |= read(config, name, x, config.block_q)
    for name, x in (("k", k), ("v", v)):
        arguments |= read(config, name, x, config.block_k)
    return arguments
