"""gate_residual: a branch, scaled by each sample's gate, added to its residual stream."""

from __future__ import annotations

from typing import Any, cast

from torch import Tensor

from .. import contract
from ..common.availability import triton_backend
from ..registry import Backend, Op
from . import _cpu, _torch, launch, reference

_NAME = "gate_residual"


def gate_residual(x: Tensor, gate: Tensor, branch: Tensor) -> Tensor:
    r"""Add a gated branch to the residual stream.

    .. math:: y_{blm} = x_{blm} + g_{bm} \cdot r_{blm}

    Args:
        x: [B, L, M], any floating dtype; any strides.
        gate: [B, M], any floating dtype.
        branch: [B, L, M], any floating dtype.

    Returns:
        [B, L, M], dtype of `x`, contiguous.

    Numerics:
        Computed in fp32 (fp64 for fp64) from inputs rounded to the dtype of `x`, rounded once.
        Deterministic. In the backward each product grad * branch is rounded to the dtype of `x`
        before their fp32 sum. The Triton row rounds neither inputs nor products.

    Raises:
        TypeError: an argument is not a floating-point tensor.
        ValueError: shapes or devices do not fit.

    Source: Peebles and Xie, DiT (2023), adaLN-Zero.
    """
    return cast(Tensor, FORWARD(*_prepare(x, gate, branch)))


def _prepare(x: Tensor, gate: Tensor, branch: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    contract.check_tensors(_NAME, x=x, gate=gate, branch=branch)
    if x.dim() != 3:
        raise ValueError(f"{_NAME}: x must be [B, L, M], got shape {list(x.shape)}")
    contract.check_shape(_NAME, "gate", gate, (x.shape[0], x.shape[2]))
    contract.check_shape(_NAME, "branch", branch, tuple(x.shape))
    return x, gate, branch


def _fake(x: Tensor, gate: Tensor, branch: Tensor) -> Tensor:
    return x.new_empty(x.shape)


def _fake_backward(grad: Tensor, gate: Tensor, branch: Tensor) -> tuple[Tensor, Tensor]:
    return gate.new_empty(gate.shape), branch.new_empty(branch.shape)


def _save(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor], output: Tensor) -> None:
    _, gate, branch = inputs
    ctx.save_for_backward(gate, branch)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    if not any(ctx.needs_input_grad[1:]):
        return grad, None, None
    return (grad, *BACKWARD(grad, *ctx.saved_tensors))


BACKWARD = Op(
    name=_NAME + "_backward",
    schema="(Tensor grad, Tensor gate, Tensor branch) -> (Tensor, Tensor)",
    reference=reference.backward,
    fake=_fake_backward,
    backends=[
        triton_backend(__package__, "backward", launch.backward_why_not),
        Backend("torch", "any", _torch.backward, None, _torch.VERIFIED),
    ],
)

FORWARD = Op(
    name=_NAME,
    schema="(Tensor x, Tensor gate, Tensor branch) -> Tensor",
    reference=reference.forward,
    fake=_fake,
    backends=[
        triton_backend(__package__, "forward", launch.why_not),
        Backend("cpu", "cpu", _cpu.forward, _cpu.why_not, _cpu.VERIFIED),
        Backend("torch", "any", _torch.forward, None, _torch.VERIFIED),
    ],
    prepare=_prepare,
    backward=_backward,
    setup_context=_save,
)
