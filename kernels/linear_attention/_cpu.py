"""linear_attention in C++ for the CPU: csrc/cpu/linear_attention.h states layouts and accuracy.

The kernel takes channels last: a video that lies otherwise is copied, and so is its result. The
gradients are those of `_torch`, with depthwise convolutions in C++ (csrc/cpu/depthwise3d.h).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .. import native
from ..common.native_depthwise import NATIVE
from ..contract import layout_of
from . import _torch

VERIFIED = "CPU: x86-64 scalar, AVX2 and AVX-512, 2026-11"


def why_not(
    qkv: Tensor, depth_weight: Tensor, point_weight: Tensor, head_dim: int, eps: float
) -> str | None:
    """Say why the kernel cannot serve this call, or return None."""
    if qkv.dtype not in native.CPU_DTYPES:
        return native.not_a_cpu_dtype("qkv", qkv)
    return native.why_no_cpu()


def backward_why_not(grad: Tensor, qkv: Tensor, *_: object) -> str | None:
    """Say why the kernels cannot serve this call, or return None."""
    if qkv.dtype not in native.CPU_DTYPES:
        return native.not_a_cpu_dtype("qkv", qkv)
    return _torch.backward_why_not(grad, qkv) or native.why_no_cpu()


def forward(
    qkv: Tensor, depth_weight: Tensor, point_weight: Tensor, head_dim: int, eps: float
) -> Tensor:
    """Return the heads of qkv, then those of its aggregation."""
    from opensora_fast import _C

    batch, width, frames, rows, columns = qkv.shape
    positions = qkv.permute(0, 2, 3, 4, 1).contiguous()
    depth_weight, point_weight = depth_weight.contiguous(), point_weight.contiguous()
    y = torch.empty(
        (batch, width // 3 * 2, frames, rows, columns),
        dtype=qkv.dtype,
        memory_format=torch.channels_last_3d,
    )
    kernel_frames, kernel_rows, kernel_columns = depth_weight.shape[2:]
    _C.linear_attention_cpu(
        qkv=positions.data_ptr(),
        depth_weight=depth_weight.data_ptr(),
        point_weight=point_weight.data_ptr(),
        y=y.data_ptr(),
        batch=batch,
        channels=width // 3,
        size=(frames, rows, columns),
        head_dim=head_dim,
        kernel=(kernel_frames, kernel_rows, kernel_columns),
        eps=eps,
        dtype=native.DTYPE_CODES[qkv.dtype],
    )
    return y.contiguous(memory_format=layout_of(qkv))


def backward(*args: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of qkv, depth_weight and point_weight."""
    return _torch.backward_by(NATIVE, *args)
