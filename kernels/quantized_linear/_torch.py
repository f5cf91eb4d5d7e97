"""quantized_linear through torch's 8-bit matrix products, scales and bias applied afterwards.

On the CPU int8 products are the library's (VNNI where there is one); fp8 numbers are products of
fp32, which holds them exactly. On CUDA the library's fp8 product applies the scales itself.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..quantize_rows import reference as quantize_rows
from ..quantize_rows.formats import MIN_FP8_CAPABILITY, format_of

VERIFIED = "CPU: x86-64 AVX-512, torch 2.13, 2026-11; never on a GPU"

_MIN_CUDA_ROWS = 17  # of the library's int8 product


def why_not(
    x: Tensor,
    x_scales: Tensor | None,
    weight: Tensor,
    weight_scales: Tensor,
    bias: Tensor | None,
    dtype: torch.dtype | None,
) -> str | None:
    """Say why the library cannot serve this call, or return None."""
    if x.numel() == 0 or weight.numel() == 0:
        return "a tensor is empty"
    if (dtype or x.dtype) is torch.float64:
        return "scales are applied in fp32, the result is fp64"
    if weight.is_cuda:
        return _cuda_why_not(x.numel() // x.shape[-1], weight, bias, dtype or x.dtype)
    return None


def _cuda_why_not(rows: int, weight: Tensor, bias: Tensor | None, dtype: torch.dtype) -> str | None:
    int8 = weight.dtype is torch.int8
    multiple = 8 if int8 else 16
    if weight.shape[0] % multiple or weight.shape[1] % multiple:
        return f"weight is {list(weight.shape)}, the library takes multiples of {multiple}"
    if int8:
        if rows < _MIN_CUDA_ROWS:
            return f"x has {rows} rows, the library takes {_MIN_CUDA_ROWS} or more"
        return None
    major, minor = torch.cuda.get_device_capability(weight.device)
    if 10 * major + minor < MIN_FP8_CAPABILITY:
        return f"fp8 needs compute capability {MIN_FP8_CAPABILITY / 10}, not {major}.{minor}"
    if dtype is not torch.bfloat16 or (bias is not None and bias.dtype is not dtype):
        return f"the library's fp8 product returns bf16 and takes a bf16 bias, not {dtype}"
    return None


def forward(
    x: Tensor,
    x_scales: Tensor | None,
    weight: Tensor,
    weight_scales: Tensor,
    bias: Tensor | None,
    dtype: torch.dtype | None,
) -> Tensor:
    """Return y."""
    dtype = dtype or x.dtype
    shape = (*x.shape[:-1], weight.shape[0])
    if x_scales is None:
        x, x_scales = quantize_rows.forward(
            x, format_of("quantized_linear", "weight", weight.dtype)
        )
    rows = x.reshape(-1, x.shape[-1]).contiguous()
    row_scales = x_scales.reshape(-1, 1).to(torch.float32)
    channel_scales = weight_scales.to(torch.float32)
    weight = weight.contiguous()
    if weight.dtype is torch.int8:
        products = torch._int_mm(rows, weight.t())
    elif weight.is_cuda:
        y = torch._scaled_mm(
            rows,
            weight.t(),
            row_scales.contiguous(),
            channel_scales[None].contiguous(),
            bias,
            out_dtype=dtype,
        )
        return y.view(shape)
    else:
        products = rows.to(torch.float32) @ weight.to(torch.float32).t()
    scaled = products.to(torch.float32).mul_(row_scales)
    if bias is None:
        scaled *= channel_scales
    else:
        scaled = torch.addcmul(bias.to(torch.float32), scaled, channel_scales, out=scaled)
    return scaled.to(dtype).view(shape)
