"""concat_gelu: a tensor and the GELU of another, side by side, in one pass."""

from __future__ import annotations

from typing import Any, cast

from torch import Tensor

from .. import contract
from ..common.availability import triton_backend
from ..registry import Backend, Op
from . import _cpu, _torch, launch, reference

_NAME = "concat_gelu"


def concat_gelu(a: Tensor, x: Tensor) -> Tensor:
    r"""Put a tensor and the GELU (tanh form) of another side by side along the last axis.

    .. math:: y = [a, \mathrm{gelu}(x)]

    The input of the second linear of a single-stream block, whose attention and MLP share it.

    Args:
        a: [..., A], any floating dtype; any strides.
        x: [..., X], dtype and leading axes of `a`.

    Returns:
        [..., A + X], dtype of `a`, contiguous.

    Numerics:
        As `gelu`. Deterministic.

    Raises:
        TypeError: not floating-point tensors of one dtype.
        ValueError: leading axes or devices do not fit.

    Source: the single-stream block of FLUX.1 and Open-Sora v2.
    """
    return cast(Tensor, FORWARD(*_prepare(a, x)))


def _prepare(a: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    contract.check_tensors(_NAME, a=a, x=x)
    contract.check_same_dtype(_NAME, a=a, x=x)
    if a.dim() < 1:
        raise ValueError(f"{_NAME}: a must have at least one axis, got shape {list(a.shape)}")
    if a.shape[:-1] != x.shape[:-1] or x.dim() != a.dim():
        raise ValueError(
            f"{_NAME}: a has shape {list(a.shape)} and x {list(x.shape)}: "
            "all axes but the last must be equal"
        )
    return a, x


def _fake(a: Tensor, x: Tensor) -> Tensor:
    return a.new_empty((*a.shape[:-1], a.shape[-1] + x.shape[-1]))


def _fake_backward(grad: Tensor, x: Tensor) -> Tensor:
    return x.new_empty(x.shape)


def _save(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
    a, x = inputs
    ctx.first = a.shape[-1]
    ctx.save_for_backward(x)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None]:
    da = grad[..., : ctx.first]
    dx = BACKWARD(grad, *ctx.saved_tensors) if ctx.needs_input_grad[1] else None
    return da, dx


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
    schema="(Tensor a, Tensor x) -> Tensor",
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
