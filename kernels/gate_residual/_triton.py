"""Triton kernels of gate_residual: y = x + gate * branch.

Layout: x and branch [B, L, M], gate [B, M], any strides; outputs contiguous. Products and sums are
fp32, of the inputs as they are.
Parallel: one program per (batch item, run of row tiles, tile of columns); it reads its part of the
gate once.
Bytes: the forward reads x and branch and writes y. The backward reads dy and branch, writes
dbranch and, per program, part of a row of partial sums of dgate, which a second small kernel adds.

    dbranch = dy * gate,  dgate = sum_L dy * branch.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from ..common._triton import plan_sum_partials
from ..common.launch import Launch, multiprocessors, strides
from .launch import Config, Problem, pick


@triton.jit
def forward_kernel(
    x_ptr, gate_ptr, branch_ptr, y_ptr, L, M,
    x_stride_b, x_stride_l, x_stride_m, gate_stride_b, gate_stride_m,
    branch_stride_b, branch_stride_l, branch_stride_m,
    column_tiles, programs_per_item, tiles_per_program,
    BLOCK_L: tl.constexpr, BLOCK_M: tl.constexpr,
):  # fmt: skip
    pid = tl.program_id(0).to(tl.int64)
    pid_b = pid // (programs_per_item * column_tiles)
    pid_l = pid // column_tiles % programs_per_item
    offs_m = pid % column_tiles * BLOCK_M + tl.arange(0, BLOCK_M)
    mask_m = offs_m < M
    at_gate = pid_b * gate_stride_b + offs_m * gate_stride_m
    b_gate = tl.load(gate_ptr + at_gate, mask=mask_m, other=0.0).to(tl.float32)[None, :]
    for tile in range(0, tiles_per_program):
        offs_l = (pid_l * tiles_per_program + tile) * BLOCK_L + tl.arange(0, BLOCK_L)
        mask = (offs_l < L)[:, None] & mask_m[None, :]
        at_x = pid_b * x_stride_b + offs_l[:, None] * x_stride_l + offs_m[None, :] * x_stride_m
        at_branch = offs_l[:, None] * branch_stride_l + offs_m[None, :] * branch_stride_m
        at_branch += pid_b * branch_stride_b
        b_x = tl.load(x_ptr + at_x, mask=mask, other=0.0).to(tl.float32)
        b_branch = tl.load(branch_ptr + at_branch, mask=mask, other=0.0).to(tl.float32)
        at_y = (pid_b * L + offs_l)[:, None] * M + offs_m[None, :]
        b_y = b_x + b_gate * b_branch
        tl.store(y_ptr + at_y, b_y.to(y_ptr.dtype.element_ty), mask=mask)


@triton.jit
def backward_kernel(
    dy_ptr, gate_ptr, branch_ptr, dbranch_ptr, partial_ptr, L, M,
    dy_stride_b, dy_stride_l, dy_stride_m, gate_stride_b, gate_stride_m,
    branch_stride_b, branch_stride_l, branch_stride_m,
    column_tiles, programs_per_item, tiles_per_program,
    BLOCK_L: tl.constexpr, BLOCK_M: tl.constexpr,
):  # fmt: skip
    pid = tl.program_id(0).to(tl.int64)
    pid_b = pid // (programs_per_item * column_tiles)
    pid_l = pid // column_tiles % programs_per_item
    offs_m = pid % column_tiles * BLOCK_M + tl.arange(0, BLOCK_M)
    mask_m = offs_m < M
    at_gate = pid_b * gate_stride_b + offs_m * gate_stride_m
    b_gate = tl.load(gate_ptr + at_gate, mask=mask_m, other=0.0).to(tl.float32)[None, :]
    b_dgate = tl.zeros([BLOCK_L, BLOCK_M], dtype=tl.float32)
    for tile in range(0, tiles_per_program):
        offs_l = (pid_l * tiles_per_program + tile) * BLOCK_L + tl.arange(0, BLOCK_L)
        mask = (offs_l < L)[:, None] & mask_m[None, :]
        at_dy = pid_b * dy_stride_b + offs_l[:, None] * dy_stride_l + offs_m[None, :] * dy_stride_m
        at_branch = offs_l[:, None] * branch_stride_l + offs_m[None, :] * branch_stride_m
        at_branch += pid_b * branch_stride_b
        b_dy = tl.load(dy_ptr + at_dy, mask=mask, other=0.0).to(tl.float32)
        b_branch = tl.load(branch_ptr + at_branch, mask=mask, other=0.0).to(tl.float32)
        b_dgate += b_dy * b_branch
        at_dbranch = (pid_b * L + offs_l)[:, None] * M + offs_m[None, :]
        b_dbranch = b_dy * b_gate
        tl.store(dbranch_ptr + at_dbranch, b_dbranch.to(dbranch_ptr.dtype.element_ty), mask=mask)
    at_partial = pid // column_tiles * M + offs_m
    tl.store(partial_ptr + at_partial, tl.sum(b_dgate, axis=0), mask=mask_m)


def forward(x: torch.Tensor, gate: torch.Tensor, branch: torch.Tensor) -> torch.Tensor:
    """Run the forward as the op's schema has it."""
    y = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    config = pick(_problem(x, backward=False), multiprocessors(x.device))
    plan_forward(x, gate, branch, y, config).run()
    return y


def backward(
    grad: torch.Tensor, gate: torch.Tensor, branch: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Run the backward as the op's schema has it: gradients of gate and branch."""
    dgate = torch.empty(gate.shape, dtype=gate.dtype, device=gate.device)
    dbranch = torch.empty(branch.shape, dtype=branch.dtype, device=branch.device)
    config = pick(_problem(grad, backward=True), multiprocessors(grad.device))
    partial = new_partial(grad, config)
    plan_backward(grad, gate, branch, dbranch, partial, config).run()
    plan_sum_partials(partial, dgate).run()
    return dgate, dbranch


def new_partial(grad: torch.Tensor, config: Config) -> torch.Tensor:
    """The buffer between the two stages of dgate: [1, B, programs_per_item, M]."""
    shape = (1, grad.shape[0], config.programs_per_item, grad.shape[2])
    return torch.empty(shape, dtype=torch.float32, device=grad.device)


def plan_forward(
    x: torch.Tensor, gate: torch.Tensor, branch: torch.Tensor, y: torch.Tensor, config: Config
) -> Launch:
    """Plan y = x + gate * branch; y is contiguous."""
    arguments = {"x_ptr": x, "gate_ptr": gate, "branch_ptr": branch, "y_ptr": y}
    arguments |= strides("x", x, "blm")
    return _launch(forward_kernel, arguments, gate, branch, config)


def plan_backward(
    grad: torch.Tensor, gate: torch.Tensor, branch: torch.Tensor,
    dbranch: torch.Tensor, partial: torch.Tensor, config: Config,
) -> Launch:  # fmt: skip
    """Plan dbranch, contiguous, and the partial sums of dgate: see ``new_partial``."""
    arguments = {
        "dy_ptr": grad, "gate_ptr": gate, "branch_ptr": branch,
        "dbranch_ptr": dbranch, "partial_ptr": partial,
    }  # fmt: skip
    arguments |= strides("dy", grad, "blm")
    return _launch(backward_kernel, arguments, gate, branch, config)


def _problem(x: torch.Tensor, backward: bool) -> Problem:
    batch, length, width = x.shape
    return Problem(batch=batch, length=length, width=width, backward=backward)


def _launch(kernel, arguments, gate, branch, config: Config) -> Launch:
    batch, length, width = branch.shape
    arguments |= strides("gate", gate, "bm") | strides("branch", branch, "blm")
    arguments |= {
        "L": length,
        "M": width,
        "column_tiles": config.column_tiles,
        "programs_per_item": config.programs_per_item,
        "tiles_per_program": config.tiles_per_program,
    }
    return Launch(
        kernel=kernel,
        grid=(batch * config.programs_per_item * config.column_tiles,),
        arguments=arguments,
        constants={"BLOCK_L": config.block_l, "BLOCK_M": config.block_m},
        num_warps=config.num_warps,
    )
