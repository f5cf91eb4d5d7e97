"""Triton kernel of layer_norm_modulate_quantized: quantised rows of LN(x) * (1 + scale) + shift.

Layout: x [B, L, M], shift and scale [B, M], any strides; values [B, L, M] and scales [B, L] dense.
Parallel: one program per (batch item, run of row tiles), as layer_norm_modulate; a row is in
registers when its largest number is known.
Bytes: reads x once; writes a byte per number and four per row.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from ..common._triton import layer_statistics
from ..common.launch import Launch, multiprocessors, strides
from ..layer_norm_modulate.launch import Config, Problem, pick
from ..quantize_rows._triton import format_constants, quantize
from ..quantize_rows.formats import FORMATS


@triton.jit
def forward_kernel(
    x_ptr, shift_ptr, scale_ptr, values_ptr, scales_ptr, L, M, eps,
    x_stride_b, x_stride_l, x_stride_m,
    shift_stride_b, shift_stride_m, scale_stride_b, scale_stride_m,
    programs_per_item, tiles_per_program,
    LARGEST: tl.constexpr, SMALLEST: tl.constexpr, INTERPRETED: tl.constexpr,
    BLOCK_L: tl.constexpr, BLOCK_M: tl.constexpr,
):  # fmt: skip
    pid = tl.program_id(0).to(tl.int64)
    pid_b = pid // programs_per_item
    pid_l = pid % programs_per_item
    offs_m = tl.arange(0, BLOCK_M).to(tl.int64)
    mask_m = offs_m < M
    at_shift = pid_b * shift_stride_b + offs_m * shift_stride_m
    at_scale = pid_b * scale_stride_b + offs_m * scale_stride_m
    b_shift = tl.load(shift_ptr + at_shift, mask=mask_m, other=0.0).to(tl.float32)[None, :]
    b_gain = tl.load(scale_ptr + at_scale, mask=mask_m, other=0.0).to(tl.float32)[None, :] + 1.0
    for tile in range(0, tiles_per_program):
        offs_l = (pid_l * tiles_per_program + tile) * BLOCK_L + tl.arange(0, BLOCK_L)
        mask_l = offs_l < L
        mask = mask_l[:, None] & mask_m[None, :]
        at_x = pid_b * x_stride_b + offs_l[:, None] * x_stride_l + offs_m[None, :] * x_stride_m
        b_x = tl.load(x_ptr + at_x, mask=mask, other=0.0).to(tl.float32)
        b_centred, b_rstd = layer_statistics(b_x, mask, M, eps)
        # Zero where masked: the gain is 1 and the shift 0 there, and so is every centred number,
        # but with eps = 0 a row past the end is NaN. It is not stored.
        b_y = b_centred * b_rstd[:, None] * b_gain + b_shift
        b_values, b_scales = quantize(
            b_y, LARGEST, SMALLEST, INTERPRETED, values_ptr.dtype.element_ty
        )
        at_row = pid_b * L + offs_l
        tl.store(values_ptr + at_row[:, None] * M + offs_m[None, :], b_values, mask=mask)
        tl.store(scales_ptr + at_row, b_scales, mask=mask_l)


def forward(
    x: torch.Tensor, shift: torch.Tensor, scale: torch.Tensor, format: str, eps: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Run the forward as the op's schema has it: values and scales."""
    batch, length, width = x.shape
    values = torch.empty(x.shape, dtype=FORMATS[format], device=x.device)
    scales = torch.empty((batch, length), dtype=torch.float32, device=x.device)
    problem = Problem(batch=batch, length=length, width=width, backward=False)
    config = pick(problem, multiprocessors(x.device))
    plan_forward(x, shift, scale, eps, values, scales, format, config).run()
    return values, scales


def plan_forward(
    x: torch.Tensor, shift: torch.Tensor, scale: torch.Tensor, eps: float,
    values: torch.Tensor, scales: torch.Tensor, format: str, config: Config,
) -> Launch:  # fmt: skip
    """Plan values [B, L, M] and scales [B, L], both contiguous."""
    batch, length, width = x.shape
    arguments = {
        "x_ptr": x, "shift_ptr": shift, "scale_ptr": scale,
        "values_ptr": values, "scales_ptr": scales, "L": length, "M": width, "eps": eps,
        "programs_per_item": config.programs_per_item,
        "tiles_per_program": config.tiles_per_program,
    }  # fmt: skip
    arguments |= (
        strides("x", x, "blm") | strides("shift", shift, "bm") | strides("scale", scale, "bm")
    )
    return Launch(
        kernel=forward_kernel,
        grid=(batch * config.programs_per_item,),
        arguments=arguments,
        constants=format_constants(format) | {"BLOCK_L": config.block_l, "BLOCK_M": config.block_m},
        num_warps=config.num_warps,
        fp_fusion=False,
    )
