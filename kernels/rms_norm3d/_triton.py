"""Triton kernels of rms_norm3d: y = activation(x * r * weight + bias) + residual, r = 1 / rms.

Layout: x, residual and y [B, C, P] contiguous, or channels-last [B, P, C]; P counts positions. All
sums are fp32.
Parallel: one program per (batch item, run of position tiles). Where a tile with all its channels
fits the registers (WHOLE), it is read once; else pieces of it are read again, from the caches.
Bytes: the forward reads x and the residual and writes y. The backward reads dy and x (the forward
saves nothing), writes dx and, per program, one row of partial sums of dweight and dbias, which a
second small kernel adds. The gradient of the residual is dy.

With n = x * r, z = n * weight + bias, dz = dy * activation'(z) and g = dz * weight:
    dx = r * (g - n * mean_c(g * n)),  dweight = sum dz * n,  dbias = sum dz over positions.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from ..common._triton import plan_sum_partials, reciprocal_root
from ..common.launch import Launch, multiprocessors
from ..contract import layout_of
from .launch import Config, Problem, pick


@triton.jit
def activated(b_z, ACTIVATION: tl.constexpr):
    if ACTIVATION == "silu":
        b_z = b_z / (1.0 + tl.exp(-b_z))
    elif ACTIVATION == "relu":
        # Not a maximum: a NaN must stay one.
        b_z = tl.where(b_z < 0.0, 0.0, b_z)
    return b_z


@triton.jit
def through_activation(b_dy, b_z, ACTIVATION: tl.constexpr):
    """The gradient of z."""
    if ACTIVATION == "silu":
        b_s = 1.0 / (1.0 + tl.exp(-b_z))
        b_dy = b_dy * b_s * (1.0 + b_z * (1.0 - b_s))
    elif ACTIVATION == "relu":
        b_dy = tl.where(b_z > 0.0, b_dy, 0.0)
    return b_dy


@triton.jit
def load_affine(weight_ptr, bias_ptr, offs_c, mask_c, HAS_BIAS: tl.constexpr):
    """Weight and bias of a block of channels, fp32 [1, BLOCK_C]."""
    b_weight = tl.load(weight_ptr + offs_c, mask=mask_c, other=0.0).to(tl.float32)[None, :]
    b_bias = tl.zeros_like(b_weight)
    if HAS_BIAS:
        b_bias = tl.load(bias_ptr + offs_c, mask=mask_c, other=0.0).to(tl.float32)[None, :]
    return b_weight, b_bias


@triton.jit
def forward_kernel(
    x_ptr, weight_ptr, bias_ptr, residual_ptr, y_ptr, P, C, eps, stride_b, stride_p, stride_c,
    programs_per_item, tiles_per_program,
    HAS_BIAS: tl.constexpr, HAS_RESIDUAL: tl.constexpr, ACTIVATION: tl.constexpr,
    WHOLE: tl.constexpr,
    BLOCK_P: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    pid = tl.program_id(0).to(tl.int64)
    base = (pid // programs_per_item) * stride_b
    offs_c = tl.arange(0, BLOCK_C).to(tl.int64)
    b_weight, b_bias = load_affine(weight_ptr, bias_ptr, offs_c, offs_c < C, HAS_BIAS)
    for tile in range(0, tiles_per_program):
        start = ((pid % programs_per_item) * tiles_per_program + tile) * BLOCK_P
        offs_p = start + tl.arange(0, BLOCK_P)
        mask_p = (offs_p < P)[:, None]
        at_p = base + offs_p[:, None] * stride_p
        if WHOLE:
            mask = mask_p & (offs_c < C)[None, :]
            at = at_p + offs_c[None, :] * stride_c
            b_x = tl.load(x_ptr + at, mask=mask, other=0.0).to(tl.float32)
            b_r = reciprocal_root(tl.sum(b_x * b_x, axis=1) / C, eps)[:, None]
            b_y = activated(b_x * b_r * b_weight + b_bias, ACTIVATION)
            if HAS_RESIDUAL:
                b_y += tl.load(residual_ptr + at, mask=mask, other=0.0).to(tl.float32)
            tl.store(y_ptr + at, b_y.to(y_ptr.dtype.element_ty), mask=mask)
        else:
            b_square = tl.zeros([BLOCK_P, BLOCK_C], dtype=tl.float32)
            for first in range(0, C, BLOCK_C):
                here = first + offs_c
                mask = mask_p & (here < C)[None, :]
                b_x = tl.load(x_ptr + at_p + here[None, :] * stride_c, mask=mask, other=0.0)
                b_square += b_x.to(tl.float32) * b_x.to(tl.float32)
            b_r = reciprocal_root(tl.sum(b_square, axis=1) / C, eps)[:, None]
            for first in range(0, C, BLOCK_C):
                here = first + offs_c
                mask = mask_p & (here < C)[None, :]
                b_w, b_b = load_affine(weight_ptr, bias_ptr, here, here < C, HAS_BIAS)
                at_piece = at_p + here[None, :] * stride_c
                b_x = tl.load(x_ptr + at_piece, mask=mask, other=0.0).to(tl.float32)
                b_y = activated(b_x * b_r * b_w + b_b, ACTIVATION)
                if HAS_RESIDUAL:
                    b_y += tl.load(residual_ptr + at_piece, mask=mask, other=0.0).to(tl.float32)
                tl.store(y_ptr + at_piece, b_y.to(y_ptr.dtype.element_ty), mask=mask)


@triton.jit
def backward_kernel(
    dy_ptr, x_ptr, weight_ptr, bias_ptr, dx_ptr, partial_ptr, P, C, eps,
    stride_b, stride_p, stride_c, partial_stride, programs_per_item, tiles_per_program,
    HAS_BIAS: tl.constexpr, ACTIVATION: tl.constexpr,
    BLOCK_P: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """Gradients of tiles that hold all their channels."""
    pid = tl.program_id(0).to(tl.int64)
    base = (pid // programs_per_item) * stride_b
    offs_c = tl.arange(0, BLOCK_C).to(tl.int64)
    mask_c = offs_c < C
    b_weight, b_bias = load_affine(weight_ptr, bias_ptr, offs_c, mask_c, HAS_BIAS)
    b_dweight = tl.zeros([BLOCK_P, BLOCK_C], dtype=tl.float32)
    b_dbias = tl.zeros([BLOCK_P, BLOCK_C], dtype=tl.float32)
    for tile in range(0, tiles_per_program):
        start = ((pid % programs_per_item) * tiles_per_program + tile) * BLOCK_P
        offs_p = start + tl.arange(0, BLOCK_P)
        mask_p = offs_p < P
        mask = mask_p[:, None] & mask_c[None, :]
        at = base + offs_p[:, None] * stride_p + offs_c[None, :] * stride_c
        b_x = tl.load(x_ptr + at, mask=mask, other=0.0).to(tl.float32)
        b_dy = tl.load(dy_ptr + at, mask=mask, other=0.0).to(tl.float32)
        b_r = reciprocal_root(tl.sum(b_x * b_x, axis=1) / C, eps)
        # A position past the end is zero: with eps = 0 its infinite r would poison the sums.
        b_r = tl.where(mask_p, b_r, 0.0)[:, None]
        b_normed = b_x * b_r
        b_dz = through_activation(b_dy, b_normed * b_weight + b_bias, ACTIVATION)
        b_dweight += b_dz * b_normed
        b_dbias += b_dz
        b_grad = b_dz * b_weight
        b_along = (tl.sum(b_grad * b_normed, axis=1) / C)[:, None]
        b_dx = b_r * (b_grad - b_normed * b_along)
        tl.store(dx_ptr + at, b_dx.to(dx_ptr.dtype.element_ty), mask=mask)
    at_partial = partial_ptr + pid * C + offs_c
    tl.store(at_partial, tl.sum(b_dweight, axis=0), mask=mask_c)
    tl.store(at_partial + partial_stride, tl.sum(b_dbias, axis=0), mask=mask_c)


@triton.jit
def backward_pieces_kernel(
    dy_ptr, x_ptr, weight_ptr, bias_ptr, dx_ptr, partial_ptr, P, C, eps,
    stride_b, stride_p, stride_c, partial_stride, programs_per_item, tiles_per_program,
    HAS_BIAS: tl.constexpr, ACTIVATION: tl.constexpr,
    BLOCK_P: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """Gradients of one tile, a piece of its channels at a time: three walks over them."""
    pid = tl.program_id(0).to(tl.int64)
    offs_p = (pid % programs_per_item) * BLOCK_P + tl.arange(0, BLOCK_P)
    mask_p = offs_p < P
    offs_c = tl.arange(0, BLOCK_C).to(tl.int64)
    base = (pid // programs_per_item) * stride_b
    at_p = base + offs_p[:, None] * stride_p
    b_square = tl.zeros([BLOCK_P, BLOCK_C], dtype=tl.float32)
    for first in range(0, C, BLOCK_C):
        here = first + offs_c
        mask = mask_p[:, None] & (here < C)[None, :]
        at = at_p + here[None, :] * stride_c
        b_x = tl.load(x_ptr + at, mask=mask, other=0.0).to(tl.float32)
        b_square += b_x * b_x
    b_r = reciprocal_root(tl.sum(b_square, axis=1) / C, eps)
    # A position past the end is zero: with eps = 0 its infinite r would poison the sums.
    b_r = tl.where(mask_p, b_r, 0.0)[:, None]
    b_sum = tl.zeros([BLOCK_P, BLOCK_C], dtype=tl.float32)
    for first in range(0, C, BLOCK_C):
        here = first + offs_c
        mask_c = here < C
        mask = mask_p[:, None] & mask_c[None, :]
        b_weight, b_bias = load_affine(weight_ptr, bias_ptr, here, mask_c, HAS_BIAS)
        at = at_p + here[None, :] * stride_c
        b_x = tl.load(x_ptr + at, mask=mask, other=0.0).to(tl.float32)
        b_dy = tl.load(dy_ptr + at, mask=mask, other=0.0).to(tl.float32)
        b_normed = b_x * b_r
        b_dz = through_activation(b_dy, b_normed * b_weight + b_bias, ACTIVATION)
        b_sum += b_dz * b_weight * b_normed
        at_partial = partial_ptr + pid * C + here
        tl.store(at_partial, tl.sum(b_dz * b_normed, axis=0), mask=mask_c)
        tl.store(at_partial + partial_stride, tl.sum(b_dz, axis=0), mask=mask_c)
    b_along = (tl.sum(b_sum, axis=1) / C)[:, None]
    for first in range(0, C, BLOCK_C):
        here = first + offs_c
        mask = mask_p[:, None] & (here < C)[None, :]
        b_weight, b_bias = load_affine(weight_ptr, bias_ptr, here, here < C, HAS_BIAS)
        at = at_p + here[None, :] * stride_c
        b_x = tl.load(x_ptr + at, mask=mask, other=0.0).to(tl.float32)
        b_dy = tl.load(dy_ptr + at, mask=mask, other=0.0).to(tl.float32)
        b_normed = b_x * b_r
        b_dz = through_activation(b_dy, b_normed * b_weight + b_bias, ACTIVATION)
        b_dx = (b_r * (b_dz * b_weight - b_normed * b_along)).to(dx_ptr.dtype.element_ty)
        tl.store(dx_ptr + at, b_dx, mask=mask)


def forward(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, eps: float, activation: str,
    residual: torch.Tensor | None,
) -> torch.Tensor:  # fmt: skip
    """Run the forward as the op's schema has it."""
    x = x.contiguous(memory_format=layout_of(x))
    if residual is not None:
        residual = residual.contiguous(memory_format=layout_of(x))
    y = torch.empty_like(x)
    config = pick(problem_of(x, backward=False), multiprocessors(x.device))
    plan_forward(x, weight, bias, eps, activation, residual, y, config).run()
    return y


def backward(
    grad: torch.Tensor, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None,
    eps: float, activation: str,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:  # fmt: skip
    """Run the backward as the op's schema has it: gradients of x, weight and bias."""
    x = x.contiguous(memory_format=layout_of(x))
    grad = grad.contiguous(memory_format=layout_of(x))
    dx = torch.empty_like(x)
    config = pick(problem_of(x, backward=True), multiprocessors(x.device))
    partial = new_partial(x, config)
    plan_backward(grad, x, weight, bias, eps, activation, dx, partial, config).run()
    dweight = weight.new_empty(weight.shape)
    dbias = (weight if bias is None else bias).new_empty(weight.shape)
    plan_sum_partials(partial, dweight[None], dbias[None]).run()
    return dx, dweight, x.new_empty(0) if bias is None else dbias


def problem_of(x: torch.Tensor, backward: bool) -> Problem:
    """Describe a call on a contiguous or channels-last video."""
    return Problem(
        batch=x.shape[0],
        positions=x[0, 0].numel(),
        channels=x.shape[1],
        channels_last=layout_of(x) is torch.channels_last_3d,
        backward=backward,
    )


def new_partial(x: torch.Tensor, config: Config) -> torch.Tensor:
    """The buffer between the two stages of dweight and dbias: [2, 1, programs, C]."""
    shape = (2, 1, x.shape[0] * config.programs_per_item, x.shape[1])
    return torch.empty(shape, dtype=torch.float32, device=x.device)


def plan_forward(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, eps: float, activation: str,
    residual: torch.Tensor | None, y: torch.Tensor, config: Config,
) -> Launch:  # fmt: skip
    """Plan y = rms_norm3d(x) + residual, in the layout of x."""
    arguments = {"x_ptr": x, "residual_ptr": x if residual is None else residual, "y_ptr": y}
    constants = {"HAS_RESIDUAL": residual is not None, "WHOLE": config.whole}
    return _launch(forward_kernel, arguments, constants, weight, bias, eps, activation, config)


def plan_backward(
    grad: torch.Tensor, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None,
    eps: float, activation: str, dx: torch.Tensor, partial: torch.Tensor, config: Config,
) -> Launch:  # fmt: skip
    """Plan dx and the partial sums of ``new_partial``; grad, x and dx lie alike."""
    kernel = backward_kernel if config.whole else backward_pieces_kernel
    arguments = {
        "x_ptr": x,
        "dy_ptr": grad,
        "dx_ptr": dx,
        "partial_ptr": partial,
        "partial_stride": partial.stride(0),
    }
    return _launch(kernel, arguments, {}, weight, bias, eps, activation, config)


def _launch(
    kernel, arguments, constants, weight, bias, eps, activation: str, config: Config
) -> Launch:
    x = arguments["x_ptr"]
    batch, channels = x.shape[:2]
    positions = x[0, 0].numel()
    last = layout_of(x) is torch.channels_last_3d
    weight = weight.contiguous()
    arguments = arguments | {
        "weight_ptr": weight,
        "bias_ptr": weight if bias is None else bias.contiguous(),
        "P": positions,
        "C": channels,
        "eps": eps,
        "stride_b": positions * channels,
        "stride_p": channels if last else 1,
        "stride_c": 1 if last else positions,
        "programs_per_item": config.programs_per_item,
        "tiles_per_program": config.tiles_per_program,
    }
    return Launch(
        kernel=kernel,
        grid=(batch * config.programs_per_item,),
        arguments=arguments,
        constants=constants
        | {
            "HAS_BIAS": bias is not None,
            "ACTIVATION": activation,
            "BLOCK_P": config.block_p,
            "BLOCK_C": config.block_c,
        },
        num_warps=config.num_warps,
    )
