"""group_norm_silu in C++ for the CPU: the headers in csrc/cpu state layouts and accuracy."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .. import native
from ..contract import layout_of
from . import _native

VERIFIED = "CPU: x86-64 scalar, AVX2 and AVX-512, 2026-11"


def why_not(
    x: Tensor, weight: Tensor, bias: Tensor, num_groups: int, eps: float, silu: bool
) -> str | None:
    """Say why the kernel cannot serve this call, or return None."""
    return native.why_no_cpu() or _native.why_not(x, weight, bias, (torch.float32, torch.bfloat16))


def forward(
    x: Tensor, weight: Tensor, bias: Tensor, num_groups: int, eps: float, silu: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Return y, and each group's mean and 1/std in fp32."""
    from opensora_fast import _C

    call = _native.prepare(x, weight, bias, num_groups)
    _C.group_norm_silu_cpu(*call.arguments(num_groups, eps, silu))
    return call.y, call.mean, call.rstd


def affine(x: Tensor, weight: Tensor, bias: Tensor, num_groups: int, eps: float) -> Tensor:
    """Return what a kernel needs that normalises by itself: h = (x - mean) * scale + shift.

    Returns:
        [3, B, C] fp32: mean, scale and shift of every sample and channel.
    """
    from opensora_fast import _C

    layout = layout_of(x)
    x, weight, bias = x.contiguous(memory_format=layout), weight.contiguous(), bias.contiguous()
    batch, channels, *trailing = x.shape
    folded = x.new_empty((3, batch, channels), dtype=torch.float32)
    _C.group_norm_affine_cpu(
        x=x.data_ptr(),
        weight=weight.data_ptr(),
        bias=bias.data_ptr(),
        affine=folded.data_ptr(),
        batch=batch,
        channels=channels,
        spatial=math.prod(trailing),
        groups=num_groups,
        eps=eps,
        channels_last=layout is torch.channels_last_3d,
        dtype=native.DTYPE_CODES[x.dtype],
        affine_dtype=native.DTYPE_CODES[weight.dtype],
    )
    return folded


def backward_why_not(
    grad: Tensor, x: Tensor, weight: Tensor, bias: Tensor, mean: Tensor, *_: object
) -> str | None:
    """Say why the kernel cannot serve this call, or return None."""
    if grad.dtype != x.dtype:
        return f"grad is {grad.dtype}, x is {x.dtype}"
    if mean.dtype != torch.float32:
        return f"mean is {mean.dtype}, the kernel takes torch.float32"
    return why_not(x, weight, bias, 1, 0.0, False)


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
    from opensora_fast import _C

    layout = layout_of(x)
    x, grad = x.contiguous(memory_format=layout), grad.contiguous(memory_format=layout)
    scale, shift, mean, rstd = (tensor.contiguous() for tensor in (weight, bias, mean, rstd))
    dx = torch.empty_like(x)
    dscale = weight.new_empty(weight.shape, dtype=torch.float32)
    dshift = torch.empty_like(dscale)
    batch, channels, *trailing = x.shape
    _C.group_norm_silu_backward_cpu(
        grad=grad.data_ptr(),
        x=x.data_ptr(),
        weight=scale.data_ptr(),
        bias=shift.data_ptr(),
        mean=mean.data_ptr(),
        rstd=rstd.data_ptr(),
        dx=dx.data_ptr(),
        dweight=dscale.data_ptr(),
        dbias=dshift.data_ptr(),
        batch=batch,
        channels=channels,
        spatial=math.prod(trailing),
        groups=num_groups,
        silu=silu,
        channels_last=layout is torch.channels_last_3d,
        dtype=native.DTYPE_CODES[x.dtype],
        affine_dtype=native.DTYPE_CODES[weight.dtype],
    )
    return dx, dscale.to(weight.dtype), dshift.to(bias.dtype)
