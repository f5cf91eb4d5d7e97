"""group_norm_silu through torch's own group norm, in the dtype of x.

On CPU the library takes half-precision x with fp32 weights and then keeps its statistics in fp32.
On CUDA it would round them to half precision, so half-precision x is widened there first.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..contract import layout_of, wide

VERIFIED = "CPU: x86-64 AVX-512, torch 2.13, 2026-11; never on a GPU"

aten = torch.ops.aten


def why_not(x: Tensor, *_: Any) -> str | None:
    """Empty tensors are left to the reference."""
    return "the tensor is empty" if x.numel() == 0 else None


def backward_why_not(grad: Tensor, *_: Any) -> str | None:
    """Empty tensors are left to the reference."""
    return why_not(grad)


def forward(
    x: Tensor, weight: Tensor, bias: Tensor, num_groups: int, eps: float, silu: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Return y, mean, rstd."""
    z, mean, rstd = _normalise(_library_input(x), weight, bias, num_groups, eps)
    y = F.silu(z, inplace=True) if silu else z
    return y.to(x.dtype).contiguous(memory_format=layout_of(x)), mean, rstd


def backward(
    grad: Tensor,
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    mean: Tensor,
    rstd: Tensor,
    num_groups: int,
    eps: float,
    silu: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of x, weight and bias."""
    layout = layout_of(x)
    dtype = x.dtype
    half = wide(dtype) != dtype
    # The library's half-precision channels-last backward on CPU is ten times slower than two
    # copies.
    inner = torch.contiguous_format if half or layout is torch.contiguous_format else layout
    x = _library_input(x).contiguous(memory_format=inner)
    grad = grad.to(x.dtype).contiguous(memory_format=inner)
    if silu:
        z, _, _ = _normalise(x, weight, bias, num_groups, eps)
        grad = aten.silu_backward(grad, z)
    scale = _dense(weight, x.dtype)
    batch, channels = x.shape[:2]
    dx, dweight, dbias = aten.native_group_norm_backward(
        grad,
        x,
        mean,
        rstd,
        scale,
        batch,
        channels,
        x.numel() // (batch * channels),
        num_groups,
        [True] * 3,
    )
    return (
        dx.to(dtype).contiguous(memory_format=layout),
        dweight.to(weight.dtype),
        dbias.to(bias.dtype),
    )


def _library_input(x: Tensor) -> Tensor:
    return x.to(wide(x.dtype)) if x.is_cuda else x


def _dense(parameter: Tensor, dtype: torch.dtype) -> Tensor:
    # The library reads its parameters as if they were contiguous, whatever their strides.
    return parameter.to(wide(dtype)).contiguous()


def _normalise(
    x: Tensor, weight: Tensor, bias: Tensor, num_groups: int, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    batch, channels = x.shape[:2]
    x = x.contiguous(memory_format=layout_of(x))
    scale, shift = _dense(weight, x.dtype), _dense(bias, x.dtype)
    size = x.numel() // (batch * channels)
    z, mean, rstd = aten.native_group_norm(x, scale, shift, batch, channels, size, num_groups, eps)
    return z, mean, rstd
