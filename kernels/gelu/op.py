"""gelu: the Gaussian error linear unit in its tanh form."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor

from .. import contract
from ..common.availability import triton_backend
from ..registry import Backend, Op
from . import _cpu, _torch, launch, reference

_NAME = "gelu"


def gelu(x: Tensor) -> Tensor:
    r"""Apply the Gaussian error linear unit in its tanh form.

    .. math:: y = \tfrac{x}{2} (1 + \tanh(\sqrt{2/\pi}\,(x + 0.044715\, x^3)))

    Args:
        x: any shape of at least one axis, any floating dtype; any strides.

    Returns:
        Shape and dtype of `x`; channels-last-3d where `x` is, else contiguous.

    Numerics:
        Computed in fp32 (fp64 for fp64), rounded once. The C++ and Triton rows evaluate
        x / (1 + exp(-2u)), which keeps the digits that 1 + tanh(u) cancels for very negative x.
        Deterministic.

    Raises:
        TypeError: `x` is not a floating-point tensor.
        ValueError: `x` has no axis.

    Source: Hendrycks and Gimpel, Gaussian Error Linear Units (2016), section 2.
    """
    return cast(Tensor, FORWARD(*_prepare(x)))


def _prepare(x: Tensor) -> tuple[Tensor]:
    contract.check_tensors(_NAME, x=x)
    if x.dim() < 1:
        raise ValueError(f"{_NAME}: x must have at least one axis, got shape {list(x.shape)}")
    return (x,)


def _fake(x: Tensor) -> Tensor:
    return torch.empty_like(x, memory_format=contract.layout_of(x))


def _fake_backward(grad: Tensor, x: Tensor) -> Tensor:
    return torch.empty_like(x, memory_format=contract.layout_of(x))


def _save(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _backward(ctx: Any, grad: Tensor) -> Tensor:
    return cast(Tensor, BACKWARD(grad, *ctx.saved_tensors))


BACKWARD = Op(
    name=_NAME + "_backward",
    schema="(Tensor grad, Tensor x) -> Tensor",
    reference=reference.backward,
    fake=_fake_backward,
    backends=[
        triton_backend(__package__, "backward", launch.backward_why_not),
        Backend("cpu", "cpu", _cpu.backward, _cpu.backward_why_not, _cpu.VERIFIED),
        Backend("torch", "any", _torch.backward, None, _torch.VERIFIED),
    ],
)

FORWARD = Op(
    name=_NAME,
    schema="(Tensor x) -> Tensor",
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
