"""rms_norm3d in C++ for the CPU: csrc/cpu/rms_norm3d.h states layouts and accuracy.

A video that is neither contiguous nor channels-last is copied.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from .. import native
from ..contract import layout_of

VERIFIED = "CPU: x86-64 scalar, AVX2 and AVX-512, 2026-11"

# As in csrc/cpu/rms_norm3d.h.
_ACTIVATIONS = {"none": 0, "silu": 1, "relu": 2}


def why_not(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    eps: float,
    activation: str,
    residual: Tensor | None = None,
) -> str | None:
    """Say why the kernel cannot serve this call, or return None."""
    if x.dtype not in native.CPU_DTYPES:
        return native.not_a_cpu_dtype("x", x)
    if weight.dtype not in (x.dtype, torch.float32):
        return f"weight is {weight.dtype}, it must be {x.dtype} or fp32"
    if bias is not None and bias.dtype != weight.dtype:
        return f"bias is {bias.dtype}, weight is {weight.dtype}"
    if residual is not None and residual.dtype != x.dtype:
        return f"residual is {residual.dtype}, x is {x.dtype}"
    return native.why_no_cpu()


def backward_why_not(
    grad: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None, eps: float, activation: str
) -> str | None:
    """Say why the kernel cannot serve this call, or return None."""
    if grad.dtype != x.dtype:
        return f"grad is {grad.dtype}, x is {x.dtype}"
    return why_not(x, weight, bias, eps, activation)


def forward(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    eps: float,
    activation: str,
    residual: Tensor | None,
) -> Tensor:
    """Return y."""
    from opensora_fast import _C

    x, weight, bias = _dense(x, weight, bias)
    if residual is not None:
        residual = residual.contiguous(memory_format=layout_of(x))
    y = torch.empty_like(x)
    _C.rms_norm3d_cpu(
        y=y.data_ptr(),
        residual=0 if residual is None else residual.data_ptr(),
        **_arguments(x, weight, bias, eps, activation),
    )
    return y


def backward(
    grad: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None, eps: float, activation: str
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of x, weight and bias; the last empty where there is no bias."""
    from opensora_fast import _C

    x, weight, bias = _dense(x, weight, bias)
    grad = grad.contiguous(memory_format=layout_of(x))
    dx = torch.empty_like(x)
    dweight = weight.new_empty(weight.shape, dtype=torch.float32)
    dbias = torch.empty_like(dweight) if bias is not None else None
    _C.rms_norm3d_backward_cpu(
        grad=grad.data_ptr(),
        dx=dx.data_ptr(),
        dweight=dweight.data_ptr(),
        dbias=0 if dbias is None else dbias.data_ptr(),
        **_arguments(x, weight, bias, eps, activation),
    )
    if dbias is None:
        return dx, dweight.to(weight.dtype), x.new_empty(0)
    return dx, dweight.to(weight.dtype), dbias.to(weight.dtype)


def _dense(x: Tensor, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
    x = x.contiguous(memory_format=layout_of(x))
    return x, weight.contiguous(), None if bias is None else bias.contiguous()


def _arguments(
    x: Tensor, weight: Tensor, bias: Tensor | None, eps: float, activation: str
) -> dict[str, Any]:
    batch, channels, *size = x.shape
    return {
        "x": x.data_ptr(),
        "weight": weight.data_ptr(),
        "bias": 0 if bias is None else bias.data_ptr(),
        "batch": batch,
        "channels": channels,
        "positions": math.prod(size),
        "eps": eps,
        "activation": _ACTIVATIONS[activation],
        "channels_last": layout_of(x) is torch.channels_last_3d,
        "dtype": native.DTYPE_CODES[x.dtype],
        "affine_dtype": native.DTYPE_CODES[weight.dtype],
    }
