"""gate_residual in C++ for the CPU: csrc/cpu/gate_residual.h states its accuracy.

Where x, gate or branch is not dense, a dense copy serves; the gate is rounded to the dtype of x.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .. import native

VERIFIED = "CPU: x86-64 scalar, AVX2 and AVX-512, 2026-11"


def why_not(x: Tensor, gate: Tensor, branch: Tensor) -> str | None:
    """Say why the kernel cannot serve this call, or return None."""
    if x.dtype not in native.CPU_DTYPES:
        return native.not_a_cpu_dtype("x", x)
    if branch.dtype not in (x.dtype, torch.bfloat16):
        return f"branch is {branch.dtype}, it must be {x.dtype} or torch.bfloat16"
    return native.why_no_cpu()


def forward(x: Tensor, gate: Tensor, branch: Tensor) -> Tensor:
    """Return x + gate * branch."""
    from opensora_fast import _C

    gate = gate.to(x.dtype).contiguous()
    x, branch = x.contiguous(), branch.contiguous()
    y = x.new_empty(x.shape)
    batch, length, width = x.shape
    _C.gate_residual_cpu(
        x=x.data_ptr(),
        gate=gate.data_ptr(),
        branch=branch.data_ptr(),
        y=y.data_ptr(),
        batch=batch,
        length=length,
        width=width,
        dtype=native.DTYPE_CODES[x.dtype],
        branch_dtype=native.DTYPE_CODES[branch.dtype],
    )
    return y
