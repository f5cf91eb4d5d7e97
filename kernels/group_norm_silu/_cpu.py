"""group_norm_silu in C++ for the CPU: csrc/cpu/group_norm_silu.h states layouts and accuracy."""

from __future__ import annotations

import torch
from torch import Tensor

from .. import native
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
    extension = native.extension()
    assert extension is not None, native.NO_EXTENSION
    call = _native.prepare(x, weight, bias, num_groups)
    extension.group_norm_silu_cpu(*call.arguments(num_groups, eps, silu))
    return call.y, call.mean, call.rstd
