"""The definition of gate_residual: y = x + gate * branch, and its gradients."""

from __future__ import annotations

from torch import Tensor

from ..contract import wide


def forward(x: Tensor, gate: Tensor, branch: Tensor) -> Tensor:
    """Return y."""
    dtype = wide(x.dtype)
    y = x.to(dtype) + gate.to(dtype)[:, None] * branch.to(dtype)
    return y.to(x.dtype).contiguous()


def backward(grad: Tensor, gate: Tensor, branch: Tensor) -> tuple[Tensor, Tensor]:
    """Return the gradients of gate and branch; that of x is `grad` itself."""
    dtype = wide(grad.dtype)
    dy = grad.to(dtype)
    dgate = (dy * branch.to(dtype)).sum(1)
    dbranch = dy * gate.to(dtype)[:, None]
    return dgate.to(gate.dtype), dbranch.to(branch.dtype).contiguous()
