"""Triton kernels of group_norm_silu's backward.

With n = (x - mean) * rstd, z = n * weight + bias and dz = dy * silu'(z), of N values per group:
    dbias = sum dz,  dweight = sum dz * n,  over all items and positions,
    dx = rstd * (weight * dz - mean_group(weight * dz) - n * mean_group(weight * dz * n)).

Layout: dy, x and dx [B, C, ...], all contiguous or all channels-last.
Parallel: as the forward. One pass leaves partial sums of dz and dz * n per channel, small kernels
add them in a fixed order, another pass writes dx.
Bytes: dy and x are read twice, dx is written.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from ..common._triton import plan_sum_partials
from ..common.launch import Launch, multiprocessors, next_power_of_two
from ..contract import layout_of
from ._triton_statistics import load_parameters, new_partial
from .launch import Config, Problem, pick_elementwise, pick_statistics


@triton.jit
def through_silu(b_dy, b_z, SILU: tl.constexpr):
    """The gradient of z: dy * silu'(z)."""
    if SILU:
        b_s = 1.0 / (1.0 + tl.exp(-b_z))
        b_dy = b_dy * b_s * (1.0 + b_z * (1.0 - b_s))
    return b_dy


@triton.jit
def sums_kernel(
    dy_ptr, x_ptr, mean_ptr, rstd_ptr, weight_ptr, bias_ptr, partial_ptr,
    P, C, groups, width, stride_b, stride_p, stride_c, stride_which,
    column_blocks, programs_per_item, tiles_per_program,
    SILU: tl.constexpr, BLOCK_P: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    pid = tl.program_id(0).to(tl.int64)
    pid_c = pid % column_blocks
    pid_s = pid // column_blocks  # of all batch items together
    pid_b = pid_s // programs_per_item
    offs_c = pid_c * BLOCK_C + tl.arange(0, BLOCK_C)
    mask_c = offs_c < C
    b_mean, b_rstd, b_weight, b_bias = load_parameters(
        mean_ptr, rstd_ptr, weight_ptr, bias_ptr, pid_b, offs_c, mask_c, groups, width
    )
    at_c = pid_b * stride_b + offs_c[None, :] * stride_c
    b_dbias = tl.zeros([BLOCK_P, BLOCK_C], dtype=tl.float32)
    b_dweight = tl.zeros([BLOCK_P, BLOCK_C], dtype=tl.float32)
    for tile in range(0, tiles_per_program):
        start = ((pid_s % programs_per_item) * tiles_per_program + tile) * BLOCK_P
        offs_p = start + tl.arange(0, BLOCK_P)
        mask = (offs_p < P)[:, None] & mask_c[None, :]
        at = at_c + offs_p[:, None] * stride_p
        b_x = tl.load(x_ptr + at, mask=mask, other=0.0).to(tl.float32)
        b_dy = tl.load(dy_ptr + at, mask=mask, other=0.0).to(tl.float32)
        b_normed = (b_x - b_mean) * b_rstd
        b_dz = through_silu(b_dy, b_normed * b_weight + b_bias, SILU)
        b_dbias += b_dz
        b_dweight += b_dz * b_normed
    at_partial = pid_s * C + offs_c
    tl.store(partial_ptr + at_partial, tl.sum(b_dbias, axis=0), mask=mask_c)
    tl.store(partial_ptr + stride_which + at_partial, tl.sum(b_dweight, axis=0), mask=mask_c)


@triton.jit
def coefficients_kernel(
    sums_ptr, weight_ptr, coefficients_ptr, groups, width, C, count,
    stride_which, coefficients_stride, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """Means of weight * dz and weight * dz * n over a group, from an item's sums per channel."""
    pid = tl.program_id(0).to(tl.int64)
    pid_b = pid // groups
    offs_k = tl.arange(0, BLOCK_C)
    offs_c = (pid % groups) * width + offs_k
    mask = offs_k < width
    b_weight = tl.load(weight_ptr + offs_c, mask=mask, other=0.0).to(tl.float32)
    at = pid_b * C + offs_c
    b_dz = tl.load(sums_ptr + at, mask=mask, other=0.0)
    b_along = tl.load(sums_ptr + stride_which + at, mask=mask, other=0.0)
    tl.store(coefficients_ptr + pid, tl.sum(b_weight * b_dz, axis=0) / count)
    b_along = tl.sum(b_weight * b_along, axis=0) / count
    tl.store(coefficients_ptr + coefficients_stride + pid, b_along)


@triton.jit
def dx_kernel(
    dy_ptr, x_ptr, mean_ptr, rstd_ptr, weight_ptr, bias_ptr, coefficients_ptr, dx_ptr,
    P, C, groups, width, stride_b, stride_p, stride_c, coefficients_stride,
    column_blocks, programs_per_item, tiles_per_program,
    SILU: tl.constexpr, BLOCK_P: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    pid = tl.program_id(0).to(tl.int64)
    pid_c = pid % column_blocks
    pid_s = pid // column_blocks
    pid_b = pid_s // programs_per_item
    offs_c = pid_c * BLOCK_C + tl.arange(0, BLOCK_C)
    mask_c = offs_c < C
    b_mean, b_rstd, b_weight, b_bias = load_parameters(
        mean_ptr, rstd_ptr, weight_ptr, bias_ptr, pid_b, offs_c, mask_c, groups, width
    )
    at_group = coefficients_ptr + pid_b * groups + offs_c // width
    b_along_mean = tl.load(at_group, mask=mask_c, other=0.0)[None, :]
    b_along_normed = tl.load(at_group + coefficients_stride, mask=mask_c, other=0.0)[None, :]
    at_c = pid_b * stride_b + offs_c[None, :] * stride_c
    for tile in range(0, tiles_per_program):
        start = ((pid_s % programs_per_item) * tiles_per_program + tile) * BLOCK_P
        offs_p = start + tl.arange(0, BLOCK_P)
        mask = (offs_p < P)[:, None] & mask_c[None, :]
        at = at_c + offs_p[:, None] * stride_p
        b_x = tl.load(x_ptr + at, mask=mask, other=0.0).to(tl.float32)
        b_dy = tl.load(dy_ptr + at, mask=mask, other=0.0).to(tl.float32)
        b_normed = (b_x - b_mean) * b_rstd
        b_dz = through_silu(b_dy, b_normed * b_weight + b_bias, SILU)
        b_dx = (b_dz * b_weight - b_along_mean - b_normed * b_along_normed) * b_rstd
        tl.store(dx_ptr + at, b_dx.to(dx_ptr.dtype.element_ty), mask=mask)


def backward(
    grad: torch.Tensor, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor,
    mean: torch.Tensor, rstd: torch.Tensor, num_groups: int, eps: float, silu: bool,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:  # fmt: skip
    """Run the backward as the op's schema has it: gradients of x, weight and bias."""
    layout = layout_of(x)
    x, grad = x.contiguous(memory_format=layout), grad.contiguous(memory_format=layout)
    weight, bias, mean, rstd = (t.contiguous() for t in (weight, bias, mean, rstd))
    batch, channels = x.shape[:2]
    num_sms = multiprocessors(x.device)
    problem = Problem(
        batch=batch,
        rows=x[0, 0].numel(),
        columns=channels,
        along_columns=layout is torch.channels_last_3d,
    )
    inputs = (grad, x, mean, rstd, weight, bias, silu)

    config = pick_statistics(problem, num_sms)
    partial = new_partial(x, problem, config)
    plan_sums(*inputs, partial, config).run()
    sums = partial.new_empty((2, batch, channels))
    plan_sum_partials(partial, sums[0], sums[1]).run()
    dweight, dbias = torch.empty_like(weight), torch.empty_like(bias)
    plan_sum_partials(sums[:, None], dbias[None], dweight[None]).run()

    coefficients = partial.new_empty((2, batch, num_groups))
    plan_coefficients(sums, weight, x[0].numel() // num_groups, coefficients).run()
    dx = torch.empty_like(x)
    config = pick_elementwise(problem, num_sms)
    plan_dx(*inputs, coefficients, dx, config).run()
    return dx, dweight, dbias


def plan_sums(
    grad: torch.Tensor, x: torch.Tensor, mean: torch.Tensor, rstd: torch.Tensor,
    weight: torch.Tensor, bias: torch.Tensor, silu: bool, partial: torch.Tensor, config: Config,
) -> Launch:  # fmt: skip
    """Plan the partial sums [2, B, programs_per_item, C] of dz and dz * n."""
    arguments = {"partial_ptr": partial, "stride_which": partial.stride(0)}
    return _launch(sums_kernel, arguments, grad, x, mean, rstd, weight, bias, silu, config)


def plan_coefficients(
    sums: torch.Tensor, weight: torch.Tensor, count: int, coefficients: torch.Tensor
) -> Launch:
    """Plan the two group means [2, B, G] that dx takes off, of sums [2, B, C]."""
    _, batch, num_groups = coefficients.shape
    channels = sums.shape[2]
    return Launch(
        kernel=coefficients_kernel,
        grid=(batch * num_groups,),
        arguments={
            "sums_ptr": sums,
            "weight_ptr": weight,
            "coefficients_ptr": coefficients,
            "groups": num_groups,
            "width": channels // num_groups,
            "C": channels,
            "count": count,
            "stride_which": sums.stride(0),
            "coefficients_stride": coefficients.stride(0),
        },
        constants={"BLOCK_C": next_power_of_two(channels // num_groups)},
        num_warps=1,
    )


def plan_dx(
    grad: torch.Tensor, x: torch.Tensor, mean: torch.Tensor, rstd: torch.Tensor,
    weight: torch.Tensor, bias: torch.Tensor, silu: bool,
    coefficients: torch.Tensor, dx: torch.Tensor, config: Config,
) -> Launch:  # fmt: skip
    """Plan dx; grad, x and dx are dense in one layout."""
    arguments = {
        "coefficients_ptr": coefficients,
        "coefficients_stride": coefficients.stride(0),
        "dx_ptr": dx,
    }
    return _launch(dx_kernel, arguments, grad, x, mean, rstd, weight, bias, silu, config)


def _launch(
    kernel, arguments, grad, x, mean, rstd, weight, bias, silu: bool, config: Config
) -> Launch:
    batch, channels = x.shape[:2]
    num_groups = mean.shape[1]
    rows = x[0, 0].numel()
    last = layout_of(x) is torch.channels_last_3d
    arguments = arguments | {
        "dy_ptr": grad, "x_ptr": x, "mean_ptr": mean, "rstd_ptr": rstd,
        "weight_ptr": weight, "bias_ptr": bias,
        "P": rows, "C": channels, "groups": num_groups, "width": channels // num_groups,
        "stride_b": rows * channels,
        "stride_p": channels if last else 1,
        "stride_c": 1 if last else rows,
        "column_blocks": config.column_blocks,
        "programs_per_item": config.programs_per_item,
        "tiles_per_program": config.tiles_per_program,
    }  # fmt: skip
    return Launch(
        kernel=kernel,
        grid=(batch * config.programs_per_item * config.column_blocks,),
        arguments=arguments,
        constants={"SILU": silu, "BLOCK_P": config.block_r, "BLOCK_C": config.block_c},
        num_warps=config.num_warps,
    )
