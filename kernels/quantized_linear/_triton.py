"""Triton kernel of quantized_linear: y = (v_x v_w^T) * s_x * s_w + bias.

Layout: v_x [M, K] and v_w [N, K] of 8-bit numbers, K dense for tensor descriptors, else any
strides; s_x [M], s_w [N], bias [N]; y [M, N] dense.
Parallel: one program per tile of y. Programs walk down a few row tiles before they go on to the
next channels, so that tiles of both operands are found in L2.
Bytes: reads both operands once per tile of the other side (through L2), writes y once.
int8 products are summed in int32, exactly; fp8 products in fp32: see ``launch.pick``.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from triton.tools.tensor_descriptor import TensorDescriptor

from ..common.availability import capability
from ..common.launch import Launch, strides
from ..quantize_rows import _triton as quantize_rows
from ..quantize_rows.formats import format_of
from .launch import Config, Problem, describable, num_tiles, pick


@triton.jit
def forward_kernel(
    x, w, x_scales_ptr, w_scales_ptr, bias_ptr, y_ptr, M, N, K,
    x_stride_m, x_stride_k, w_stride_n, w_stride_k,
    HAS_BIAS: tl.constexpr, INTEGER: tl.constexpr, DESCRIPTORS: tl.constexpr,
    PROMOTE_K: tl.constexpr, GROUP_M: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    pid = tl.program_id(0)
    tiles_m, tiles_n = tl.cdiv(M, BLOCK_M), tl.cdiv(N, BLOCK_N)
    group = pid // (GROUP_M * tiles_n)
    group_size = tl.minimum(tiles_m - group * GROUP_M, GROUP_M)
    pid_m = group * GROUP_M + pid % (GROUP_M * tiles_n) % group_size
    pid_n = pid % (GROUP_M * tiles_n) // group_size
    start_m, start_n = pid_m * BLOCK_M, pid_n * BLOCK_N
    offs_m = start_m + tl.arange(0, BLOCK_M).to(tl.int64)
    offs_n = start_n + tl.arange(0, BLOCK_N).to(tl.int64)
    offs_k = tl.arange(0, BLOCK_K).to(tl.int64)
    mask_m, mask_n = offs_m < M, offs_n < N
    at_x = offs_m[:, None] * x_stride_m + offs_k[None, :] * x_stride_k
    at_w = offs_n[None, :] * w_stride_n + offs_k[:, None] * w_stride_k
    b_acc = tl.zeros([BLOCK_M, BLOCK_N], dtype=tl.int32 if INTEGER else tl.float32)
    for start_k in range(0, K, BLOCK_K):
        if DESCRIPTORS:
            b_x = x.load([start_m, start_k])
            b_w = w.load([start_n, start_k]).T
        else:
            mask_k = offs_k < K - start_k
            b_x = tl.load(x + at_x, mask=mask_m[:, None] & mask_k[None, :], other=0.0)
            b_w = tl.load(w + at_w, mask=mask_k[:, None] & mask_n[None, :], other=0.0)
            at_x += BLOCK_K * x_stride_k
            at_w += BLOCK_K * w_stride_k
        if INTEGER:
            b_acc = tl.dot(b_x, b_w, b_acc, out_dtype=tl.int32)
        else:
            b_acc = tl.dot(b_x, b_w, b_acc, max_num_imprecise_acc=PROMOTE_K)
    b_row_scales = tl.load(x_scales_ptr + offs_m, mask=mask_m, other=0.0).to(tl.float32)
    b_scales = tl.load(w_scales_ptr + offs_n, mask=mask_n, other=0.0).to(tl.float32)
    b_y = b_acc.to(tl.float32) * (b_row_scales[:, None] * b_scales[None, :])
    if HAS_BIAS:
        b_y += tl.load(bias_ptr + offs_n, mask=mask_n, other=0.0).to(tl.float32)[None, :]
    at_y = offs_m[:, None] * N + offs_n[None, :]
    b_y = b_y.to(y_ptr.dtype.element_ty)
    tl.store(y_ptr + at_y, b_y, mask=mask_m[:, None] & mask_n[None, :])


def forward(
    x: torch.Tensor, x_scales: torch.Tensor | None, weight: torch.Tensor,
    weight_scales: torch.Tensor, bias: torch.Tensor | None, dtype: torch.dtype | None,
) -> torch.Tensor:  # fmt: skip
    """Run the forward as the op's schema has it."""
    dtype = dtype or x.dtype
    y = torch.empty((*x.shape[:-1], weight.shape[0]), dtype=dtype, device=x.device)
    if y.numel() == 0:
        return y
    format = format_of("quantized_linear", "weight", weight.dtype)
    if x_scales is None:
        x, x_scales = quantize_rows.forward(x, format)
    rows, channels = x.reshape(-1, x.shape[-1]), weight.shape[0]
    problem = Problem(
        rows=rows.shape[0],
        width_in=rows.shape[1],
        width_out=channels,
        format=format,
        describable=describable(rows) and describable(weight),
    )
    # A few bytes per row: where scales and bias are not dense, a dense copy serves.
    x_scales, weight_scales = x_scales.reshape(-1).contiguous(), weight_scales.contiguous()
    bias = None if bias is None else bias.contiguous()
    config = pick(problem, capability(x.device))
    plan_forward(
        rows, x_scales, weight, weight_scales, bias, y.view(-1, channels), problem, config
    ).run()
    return y


def plan_forward(
    x: torch.Tensor, x_scales: torch.Tensor, weight: torch.Tensor, weight_scales: torch.Tensor,
    bias: torch.Tensor | None, y: torch.Tensor, problem: Problem, config: Config,
) -> Launch:  # fmt: skip
    """Plan y [M, N] of quantised x [M, K] and weight [N, K]; scales, bias and y are contiguous."""
    operands = {"x": x, "w": weight}
    if config.descriptors:
        operands = {
            "x": TensorDescriptor.from_tensor(x, [config.block_m, config.block_k]),
            "w": TensorDescriptor.from_tensor(weight, [config.block_n, config.block_k]),
        }
    arguments = operands | {
        "x_scales_ptr": x_scales,
        "w_scales_ptr": weight_scales,
        "bias_ptr": weight_scales if bias is None else bias,
        "y_ptr": y,
        "M": problem.rows,
        "N": problem.width_out,
        "K": problem.width_in,
    }
    return Launch(
        kernel=forward_kernel,
        grid=(num_tiles(problem, config),),
        arguments=arguments | strides("x", x, "mk") | strides("w", weight, "nk"),
        constants={
            "HAS_BIAS": bias is not None,
            "INTEGER": weight.dtype is torch.int8,
            "DESCRIPTORS": config.descriptors,
            "PROMOTE_K": config.promote_k,
            "GROUP_M": config.group_m,
            "BLOCK_M": config.block_m,
            "BLOCK_N": config.block_n,
            "BLOCK_K": config.block_k,
        },
        num_warps=config.num_warps,
        num_stages=config.num_stages,
    )
