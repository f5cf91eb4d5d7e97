"""Triton kernels of layer_norm_modulate: y = (x - mean) * rstd * (1 + scale) + shift.

Layout: x [B, L, M], shift and scale [B, M], any strides; outputs contiguous. Statistics over M and
all sums are fp32.
Parallel: one program per (batch item, run of row tiles). A whole row lies in the program's
registers, so x is read once.
Bytes: the forward reads x and writes y. The backward reads dy and x (statistics are recomputed, the
forward saves none), writes dx and, per program, one row of partial sums of dshift and dscale, which
a second small kernel adds.

With n = (x - mean) * rstd and g = dy * (1 + scale):
    dx = rstd * (g - mean(g) - n * mean(g * n)),  dshift = sum_L dy,  dscale = sum_L dy * n.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from ..common import tune
from ..common._triton import layer_statistics, plan_sum_partials
from ..common.launch import Launch, multiprocessors, strides
from .launch import Config, Problem, candidates, pick

_OP = "layer_norm_modulate"


@triton.jit
def forward_kernel(
    x_ptr, shift_ptr, scale_ptr, y_ptr, L, M, eps,
    x_stride_b, x_stride_l, x_stride_m,
    shift_stride_b, shift_stride_m, scale_stride_b, scale_stride_m,
    programs_per_item, tiles_per_program,
    BLOCK_L: tl.constexpr, BLOCK_M: tl.constexpr,
):  # fmt: skip
    pid = tl.program_id(0).to(tl.int64)
    pid_b = pid // programs_per_item
    pid_l = pid % programs_per_item
    offs_m = tl.arange(0, BLOCK_M).to(tl.int64)
    mask_m = offs_m < M
    b_shift = tl.load(
        shift_ptr + pid_b * shift_stride_b + offs_m * shift_stride_m, mask=mask_m, other=0.0
    )
    b_scale = tl.load(
        scale_ptr + pid_b * scale_stride_b + offs_m * scale_stride_m, mask=mask_m, other=0.0
    )
    b_shift = b_shift.to(tl.float32)[None, :]
    b_gain = b_scale.to(tl.float32)[None, :] + 1.0
    for tile in range(0, tiles_per_program):
        offs_l = (pid_l * tiles_per_program + tile) * BLOCK_L + tl.arange(0, BLOCK_L)
        mask = (offs_l < L)[:, None] & mask_m[None, :]
        at_x = pid_b * x_stride_b + offs_l[:, None] * x_stride_l + offs_m[None, :] * x_stride_m
        b_x = tl.load(x_ptr + at_x, mask=mask, other=0.0).to(tl.float32)
        b_centred, b_rstd = layer_statistics(b_x, mask, M, eps)
        b_y = b_centred * b_rstd[:, None] * b_gain + b_shift
        at_y = (pid_b * L + offs_l)[:, None] * M + offs_m[None, :]
        tl.store(y_ptr + at_y, b_y.to(y_ptr.dtype.element_ty), mask=mask)


@triton.jit
def backward_kernel(
    dy_ptr, x_ptr, scale_ptr, dx_ptr, partial_ptr, L, M, eps,
    dy_stride_b, dy_stride_l, dy_stride_m,
    x_stride_b, x_stride_l, x_stride_m,
    scale_stride_b, scale_stride_m, partial_stride,
    programs_per_item, tiles_per_program,
    BLOCK_L: tl.constexpr, BLOCK_M: tl.constexpr,
):  # fmt: skip
    pid = tl.program_id(0).to(tl.int64)
    pid_b = pid // programs_per_item
    pid_l = pid % programs_per_item
    offs_m = tl.arange(0, BLOCK_M).to(tl.int64)
    mask_m = offs_m < M
    b_scale = tl.load(
        scale_ptr + pid_b * scale_stride_b + offs_m * scale_stride_m, mask=mask_m, other=0.0
    )
    b_gain = b_scale.to(tl.float32)[None, :] + 1.0
    b_dshift = tl.zeros([BLOCK_L, BLOCK_M], dtype=tl.float32)
    b_dscale = tl.zeros([BLOCK_L, BLOCK_M], dtype=tl.float32)
    for tile in range(0, tiles_per_program):
        offs_l = (pid_l * tiles_per_program + tile) * BLOCK_L + tl.arange(0, BLOCK_L)
        mask_l = offs_l < L
        mask = mask_l[:, None] & mask_m[None, :]
        at_x = pid_b * x_stride_b + offs_l[:, None] * x_stride_l + offs_m[None, :] * x_stride_m
        at_dy = pid_b * dy_stride_b + offs_l[:, None] * dy_stride_l + offs_m[None, :] * dy_stride_m
        b_x = tl.load(x_ptr + at_x, mask=mask, other=0.0).to(tl.float32)
        b_dy = tl.load(dy_ptr + at_dy, mask=mask, other=0.0).to(tl.float32)
        b_centred, b_rstd = layer_statistics(b_x, mask, M, eps)
        # A row past the end has variance 0: with eps = 0 its infinite rstd would poison the sums.
        b_rstd = tl.where(mask_l, b_rstd, 0.0)[:, None]
        b_normed = b_centred * b_rstd
        b_dshift += b_dy
        b_dscale += b_dy * b_normed
        b_grad = b_dy * b_gain
        b_mean = (tl.sum(b_grad, axis=1) / M)[:, None]
        b_along = (tl.sum(b_grad * b_normed, axis=1) / M)[:, None]
        b_dx = b_rstd * (b_grad - b_mean - b_normed * b_along)
        at_dx = (pid_b * L + offs_l)[:, None] * M + offs_m[None, :]
        tl.store(dx_ptr + at_dx, b_dx.to(dx_ptr.dtype.element_ty), mask=mask)
    at_partial = pid * M + offs_m
    tl.store(partial_ptr + at_partial, tl.sum(b_dshift, axis=0), mask=mask_m)
    tl.store(partial_ptr + partial_stride + at_partial, tl.sum(b_dscale, axis=0), mask=mask_m)


def forward(x: torch.Tensor, shift: torch.Tensor, scale: torch.Tensor, eps: float) -> torch.Tensor:
    """Run the forward as the op's schema has it."""
    y = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    config = _choose(x, backward=False)
    plan_forward(x, shift, scale, eps, y, config).run()
    return y


def backward(
    grad: torch.Tensor, x: torch.Tensor, shift: torch.Tensor, scale: torch.Tensor, eps: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Run the backward as the op's schema has it: gradients of x, shift and scale."""
    dx = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    dshift = torch.empty(shift.shape, dtype=shift.dtype, device=x.device)
    dscale = torch.empty(scale.shape, dtype=scale.dtype, device=x.device)
    config = _choose(x, backward=True)
    partial = new_partial(x, config)
    plan_backward(grad, x, scale, eps, dx, partial, config).run()
    plan_sum_partials(partial, dshift, dscale).run()
    return dx, dshift, dscale


def new_partial(x: torch.Tensor, config: Config) -> torch.Tensor:
    """The buffer between the two stages of dshift and dscale: [2, B, programs_per_item, M]."""
    shape = (2, x.shape[0], config.programs_per_item, x.shape[2])
    return torch.empty(shape, dtype=torch.float32, device=x.device)


def plan_forward(
    x: torch.Tensor,
    shift: torch.Tensor,
    scale: torch.Tensor,
    eps: float,
    y: torch.Tensor,
    config: Config,
) -> Launch:
    """Plan y = layer_norm_modulate(x, shift, scale); y is contiguous."""
    batch, length, width = x.shape
    arguments = {
        "x_ptr": x,
        "shift_ptr": shift,
        "scale_ptr": scale,
        "y_ptr": y,
        "L": length,
        "M": width,
        "eps": eps,
    }
    arguments |= (
        strides("x", x, "blm") | strides("shift", shift, "bm") | strides("scale", scale, "bm")
    )
    return _launch(forward_kernel, arguments, batch, config)


def plan_backward(
    grad: torch.Tensor, x: torch.Tensor, scale: torch.Tensor, eps: float, dx: torch.Tensor,
    partial: torch.Tensor, config: Config,
) -> Launch:  # fmt: skip
    """Plan dx and the partial sums of dshift and dscale: see ``new_partial``."""
    batch, length, width = x.shape
    arguments = {
        "dy_ptr": grad, "x_ptr": x, "scale_ptr": scale, "dx_ptr": dx, "partial_ptr": partial,
        "L": length, "M": width, "eps": eps, "partial_stride": partial.stride(0),
    }  # fmt: skip
    arguments |= strides("dy", grad, "blm") | strides("x", x, "blm") | strides("scale", scale, "bm")
    return _launch(backward_kernel, arguments, batch, config)


def _choose(x: torch.Tensor, backward: bool) -> Config:
    batch, length, width = x.shape
    problem = Problem(batch=batch, length=length, width=width, backward=backward)
    num_sms = multiprocessors(x.device)
    default = pick(problem, num_sms)
    return tune.choose(_OP, problem, x, default, lambda: candidates(problem, num_sms))


def _launch(kernel, arguments, batch: int, config: Config) -> Launch:
    arguments |= {
        "programs_per_item": config.programs_per_item,
        "tiles_per_program": config.tiles_per_program,
    }
    return Launch(
        kernel=kernel,
        grid=(batch * config.programs_per_item,),
        arguments=arguments,
        constants={"BLOCK_L": config.block_l, "BLOCK_M": config.block_m},
        num_warps=config.num_warps,
    )
