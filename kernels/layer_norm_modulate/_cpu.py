"""layer_norm_modulate in C++ for the CPU: csrc/cpu/layer_norm_modulate.h states its accuracy.

Tokens of x may lie at any distance from each other; where the channels of one do not lie next to
each other, and where shift or scale is not dense, a dense copy serves.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .. import native

VERIFIED = "CPU: x86-64 scalar, AVX2 and AVX-512, 2026-11"


def why_not(x: Tensor, shift: Tensor, scale: Tensor, eps: float) -> str | None:
    """Say why the kernel cannot serve this call, or return None."""
    if x.dtype not in native.CPU_DTYPES:
        return native.not_a_cpu_dtype("x", x)
    if shift.dtype != scale.dtype or shift.dtype not in (x.dtype, torch.float32):
        return f"shift is {shift.dtype} and scale {scale.dtype}, both must be {x.dtype} or fp32"
    return native.why_no_cpu()


def forward(x: Tensor, shift: Tensor, scale: Tensor, eps: float) -> Tensor:
    """Return y."""
    from opensora_fast import _C

    if x.stride(2) != 1:
        x = x.contiguous()
    shift, scale = shift.contiguous(), scale.contiguous()
    y = x.new_empty(x.shape)
    batch, length, width = x.shape
    _C.layer_norm_modulate_cpu(
        x=x.data_ptr(),
        y=y.data_ptr(),
        shift=shift.data_ptr(),
        scale=scale.data_ptr(),
        batch=batch,
        length=length,
        width=width,
        sample_stride=x.stride(0),
        token_stride=x.stride(1),
        eps=eps,
        dtype=native.DTYPE_CODES[x.dtype],
        modulation_dtype=native.DTYPE_CODES[shift.dtype],
    )
    return y
