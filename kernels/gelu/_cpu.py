"""gelu in C++ for the CPU: csrc/cpu/gelu.h states its accuracy.

Rows may lie at one distance from each other, as a part of the columns of a matrix does; anything
less regular is copied first.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .. import native
from ..contract import layout_of

VERIFIED = "CPU: x86-64 scalar, AVX2 and AVX-512, 2026-11"


def why_not(x: Tensor) -> str | None:
    """Say why the kernel cannot serve this call, or return None."""
    if x.dtype not in native.CPU_DTYPES:
        return native.not_a_cpu_dtype("x", x)
    if layout_of(x) is not torch.contiguous_format:
        return "x is channels-last, the kernel writes contiguous outputs"
    return native.why_no_cpu()


def backward_why_not(grad: Tensor, x: Tensor) -> str | None:
    """Say why the kernel cannot serve this call, or return None."""
    if grad.dtype != x.dtype:
        return f"grad is {grad.dtype}, x is {x.dtype}"
    return why_not(x)


def forward(x: Tensor) -> Tensor:
    """Return y."""
    y = x.new_empty(x.shape)
    whole = x.is_contiguous()
    fill(as_rows(x, whole=whole), as_rows(y, whole=whole))
    return y


def backward(grad: Tensor, x: Tensor) -> Tensor:
    """Return the gradient of x."""
    from opensora_fast import _C

    dx = x.new_empty(x.shape)
    whole = x.is_contiguous() and grad.is_contiguous()
    grad, x = as_rows(grad, whole=whole), as_rows(x, whole=whole)
    _C.gelu_backward_cpu(
        grad=grad.data_ptr(),
        x=x.data_ptr(),
        dx=dx.data_ptr(),
        rows=x.shape[0],
        width=x.shape[1],
        grad_stride=grad.stride(0),
        x_stride=x.stride(0),
        dtype=native.DTYPE_CODES[x.dtype],
    )
    return dx


def fill(x: Tensor, y: Tensor) -> None:
    """Write gelu(x) to y: both [rows, width], of one dtype, and as `as_rows` returns them."""
    from opensora_fast import _C

    _C.gelu_cpu(
        x=x.data_ptr(),
        y=y.data_ptr(),
        rows=x.shape[0],
        width=x.shape[1],
        x_stride=x.stride(0),
        y_stride=y.stride(0),
        dtype=native.DTYPE_CODES[x.dtype],
    )


def as_rows(x: Tensor, *, whole: bool = False) -> Tensor:
    """Return x as [rows, last axis] with dense rows; as a single row if it is `whole`."""
    width = x.numel() if whole else x.shape[-1]
    rows = x.reshape(x.numel() // max(1, width), width)
    return rows if rows.stride(1) == 1 else rows.contiguous()
