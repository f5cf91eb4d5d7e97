"""What the Triton kernel of quantized_linear can run, and how it is launched."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..common.availability import triton_why_not
from ..common.launch import cdiv, next_power_of_two
from ..quantize_rows import launch as quantize_rows
from ..quantize_rows.formats import format_of

MAX_ROWS = 2**31  # rows are counted in 32 bits, and so are output channels
MAX_INT8_WIDTH = 2**17  # 127 * 127 * 2^17 is the largest sum of so many products that fits 32 bits


def why_not(
    x: Tensor,
    x_scales: Tensor | None,
    weight: Tensor,
    weight_scales: Tensor,
    bias: Tensor | None,
    dtype: torch.dtype | None,
) -> str | None:
    """Return why the kernel cannot serve a call, or None."""
    format = format_of("quantized_linear", "weight", weight.dtype)
    width = x.shape[-1]
    if x.numel() // width >= MAX_ROWS or weight.shape[0] >= MAX_ROWS:
        return f"{x.numel() // width} rows or {weight.shape[0]} channels: one is 2^31 or more"
    if format == "int8" and width >= MAX_INT8_WIDTH:
        return f"sums of {width} int8 products may exceed 32 bits"
    if dtype is torch.float64:
        return "scales are applied in fp32, the result is fp64"
    others = [tensor for tensor in (bias, x_scales) if tensor is not None]
    refused = triton_why_not(weight_scales, *others)
    if refused is not None:
        return refused
    if x_scales is None:
        return quantize_rows.why_not(x, format)
    return quantize_rows.format_why_not(x, format)


@dataclass(frozen=True, kw_only=True, slots=True)
class Problem:
    """Sizes of one call; ``describable`` if x and weight fit tensor descriptors."""

    rows: int
    width_in: int
    width_out: int
    format: str
    describable: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """One program: ``block_m`` rows by ``block_n`` channels, ``block_k`` products at a time.

    ``group_m`` neighbouring row tiles share their tiles of the weight through L2.
    ``promote_k`` products are summed in the tensor core before they are added in fp32; 0: all are.
    """

    descriptors: bool
    block_m: int
    block_n: int
    block_k: int
    group_m: int
    promote_k: int
    num_warps: int
    num_stages: int


def describable(x: Tensor) -> bool:
    """Return whether a tensor descriptor can hold a matrix of bytes: dense rows, 16-byte bounds."""
    dense = x.stride(1) == 1 and x.stride(0) >= x.shape[1]
    return dense and x.stride(0) % 16 == 0 and x.data_ptr() % 16 == 0


def pick(problem: Problem, capability: int) -> Config:
    """Choose the launch: the largest tiles that spill no registers.

    The tensor cores of sm_90 add fp8 products with 14 bits. Sums of 128 of them are therefore added
    in fp32 registers, which takes twice the registers, and so a tile of half the size.
    """
    if max(problem.rows, problem.width_out) <= 64 or problem.width_in <= 64:
        return Config(
            descriptors=False,
            block_m=min(64, max(16, next_power_of_two(problem.rows))),
            block_n=min(64, max(16, next_power_of_two(problem.width_out))),
            block_k=min(128, max(32, next_power_of_two(problem.width_in))),
            group_m=8,
            promote_k=0,
            num_warps=4,
            num_stages=2,
        )
    descriptors = problem.describable and 90 <= capability < 120
    promoted = problem.format == "fp8" and capability == 90
    wide = capability == 90 and descriptors and not promoted
    return Config(
        descriptors=descriptors,
        block_m=128,
        block_n=256 if wide else 128,
        block_k=128,
        group_m=8,
        promote_k=128 if promoted else 0,
        num_warps=8,
        num_stages=4 if descriptors else 3,
    )


def num_tiles(problem: Problem, config: Config) -> int:
    """Return the number of tiles, and so of programs."""
    return cdiv(problem.rows, config.block_m) * cdiv(problem.width_out, config.block_n)
