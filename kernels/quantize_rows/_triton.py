"""Triton kernel of quantize_rows: scale = max |x| / Q, value = round(x * (Q / max |x|)).

Layout: x a matrix [rows, K] of any strides; values [rows, K] and scales [rows] dense.
Parallel: one program per tile of whole rows, which lie in its registers.
Bytes: reads x once; writes a byte per number and four per row.
Bits are the definition's: division and product are rounded correctly and never contracted with
what follows (`fp_fusion` off).
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from ..common.availability import interpreted
from ..common.launch import Launch, strides
from .formats import FORMATS, LARGEST, SMALLEST
from .launch import Problem, pick


@triton.jit
def _larger(a, b):
    return tl.maximum(a, b, propagate_nan=tl.PropagateNan.ALL)


@triton.jit
def round_even(b_x):
    """Round fp32 numbers below 2^22 to the nearest integer, ties to even."""
    return (b_x + 12582912.0) - 12582912.0


@triton.jit
def round_e4m3(b_x):
    """Round fp32 numbers to those that e4m3 has, ties to even."""
    b_bits = b_x.to(tl.int32, bitcast=True)
    b_bits += 0x7FFFF + ((b_bits >> 20) & 1)
    b_normal = (b_bits & -0x100000).to(tl.float32, bitcast=True)
    # Below 2^-6 they are multiples of 2^-9, the distance of fp32 numbers from 2^14 to 2^15.
    b_subnormal = (b_x + 24576.0) - 24576.0
    return tl.where(tl.abs(b_x) < 0.015625, b_subnormal, b_normal)


@triton.jit
def quantize(
    b_x, LARGEST: tl.constexpr, SMALLEST: tl.constexpr, INTERPRETED: tl.constexpr,
    dtype: tl.constexpr,
):  # fmt: skip
    """Values and scales of rows of fp32 numbers, zero where masked.

    The hardware's cast to fp8 rounds to nearest even; the interpreter's does not, so there the cast
    gets numbers that need no rounding.
    """
    b_largest = tl.maximum(tl.reduce(tl.abs(b_x), 1, _larger), SMALLEST, tl.PropagateNan.ALL)
    b_values = b_x * tl.div_rn(LARGEST, b_largest)[:, None]
    if dtype == tl.int8:
        b_values = round_even(b_values)
    elif INTERPRETED:
        b_values = round_e4m3(b_values)
    return b_values.to(dtype), tl.div_rn(b_largest, LARGEST)


@triton.jit
def forward_kernel(
    x_ptr, values_ptr, scales_ptr, rows, width, x_stride_r, x_stride_w,
    LARGEST: tl.constexpr, SMALLEST: tl.constexpr, INTERPRETED: tl.constexpr,
    BLOCK_R: tl.constexpr, BLOCK_W: tl.constexpr,
):  # fmt: skip
    offs_r = tl.program_id(0).to(tl.int64) * BLOCK_R + tl.arange(0, BLOCK_R)
    offs_w = tl.arange(0, BLOCK_W).to(tl.int64)
    mask_r = offs_r < rows
    mask = mask_r[:, None] & (offs_w < width)[None, :]
    at_x = offs_r[:, None] * x_stride_r + offs_w[None, :] * x_stride_w
    b_x = tl.load(x_ptr + at_x, mask=mask, other=0.0).to(tl.float32)
    b_values, b_scales = quantize(b_x, LARGEST, SMALLEST, INTERPRETED, values_ptr.dtype.element_ty)
    tl.store(values_ptr + offs_r[:, None] * width + offs_w[None, :], b_values, mask=mask)
    tl.store(scales_ptr + offs_r, b_scales, mask=mask_r)


def forward(x: torch.Tensor, format: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Run the forward as the op's schema has it: values and scales."""
    values = torch.empty(x.shape, dtype=FORMATS[format], device=x.device)
    scales = torch.empty(x.shape[:-1], dtype=torch.float32, device=x.device)
    width = x.shape[-1]
    # Leading axes that do not fit one stride are copied.
    plan_forward(x.reshape(-1, width), values.view(-1, width), scales.view(-1), format).run()
    return values, scales


def format_constants(format: str) -> dict[str, object]:
    """What `quantize` takes, by the names of a kernel's constants."""
    return {
        "LARGEST": LARGEST[format],
        "SMALLEST": SMALLEST,
        "INTERPRETED": interpreted(),
    }


def plan_forward(
    x: torch.Tensor, values: torch.Tensor, scales: torch.Tensor, format: str
) -> Launch:
    """Plan values [rows, K] and scales [rows] of x [rows, K]."""
    config = pick(problem := Problem(rows=x.shape[0], width=x.shape[1]))
    arguments = {"x_ptr": x, "values_ptr": values, "scales_ptr": scales}
    return Launch(
        kernel=forward_kernel,
        grid=(config.row_tiles,),
        arguments=arguments
        | {"rows": problem.rows, "width": problem.width}
        | strides("x", x, "rw"),
        constants=format_constants(format)
        | {
            "BLOCK_R": config.block_r,
            "BLOCK_W": config.block_w,
        },
        num_warps=config.num_warps,
        fp_fusion=False,
    )
