"""rms_norm3d: RMS norm over the channels of every position, then optionally an activation."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor

from .. import contract
from ..common.availability import triton_backend
from ..registry import Backend, Op
from . import _cpu, _torch, launch, reference

_NAME = "rms_norm3d"
_ACTIVATIONS = ("none", "silu", "relu")


def rms_norm3d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    activation: str = "none",
    residual: Tensor | None = None,
) -> Tensor:
    r"""Divide every position by the root mean square of its channels, scale, shift, activate, add.

    .. math:: y_{bcp} = a\left(x_{bcp} / \sqrt{\tfrac{1}{C} \sum_c x_{bcp}^2 + \epsilon}
              \cdot w_c + b_c\right) + r_{bcp}

    Args:
        x: [B, C, T, H, W], any floating dtype; any strides.
        weight: [C], any floating dtype.
        bias: [C], any floating dtype; None for none.
        eps: added to the mean square.
        activation: ``"none"``, ``"silu"`` or ``"relu"``.
        residual: [B, C, T, H, W], any floating dtype; any strides; None adds nothing.

    Returns:
        [B, C, T, H, W], dtype of `x`; channels-last-3d where `x` is, else contiguous.

    Numerics:
        Computed in fp32 (fp64 for fp64), rounded once at the end; the Video DC-AE as released also
        rounds before and after the weight, and before the residual. Deterministic.

    Raises:
        TypeError: an argument is not a floating-point tensor.
        ValueError: shapes, eps, activation or devices do not fit.

    Source: Zhang and Sennrich, Root Mean Square Layer Normalization (2019); the Video DC-AE of
    Open-Sora 2.0, whose blocks end in it.
    """
    return cast(Tensor, FORWARD(*_prepare(x, weight, bias, eps, activation, residual)))


def _prepare(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    activation: str = "none",
    residual: Tensor | None = None,
) -> tuple[Any, ...]:
    contract.check_tensors(_NAME, x=x, weight=weight, bias=bias, residual=residual)
    if x.dim() != 5 or x.shape[1] < 1:
        raise ValueError(f"{_NAME}: x must be [B, C, T, H, W], got shape {list(x.shape)}")
    contract.check_shape(_NAME, "weight", weight, (x.shape[1],))
    if bias is not None:
        contract.check_shape(_NAME, "bias", bias, (x.shape[1],))
    if residual is not None:
        contract.check_shape(_NAME, "residual", residual, tuple(x.shape))
    if eps < 0:
        raise ValueError(f"{_NAME}: eps must not be negative, got {eps}")
    if activation not in _ACTIVATIONS:
        raise ValueError(
            f"{_NAME}: unknown activation {activation!r}, accepted are {', '.join(_ACTIVATIONS)}"
        )
    return x, weight, bias, float(eps), activation, residual


def _fake(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    eps: float,
    activation: str,
    residual: Tensor | None,
) -> Tensor:
    return torch.empty_like(x, memory_format=contract.layout_of(x))


def _fake_backward(
    grad: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None, eps: float, activation: str
) -> tuple[Tensor, Tensor, Tensor]:
    dx = torch.empty_like(x, memory_format=contract.layout_of(x))
    dbias = x.new_empty(0) if bias is None else bias.new_empty(bias.shape)
    return dx, weight.new_empty(weight.shape), dbias


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, weight, bias, ctx.eps, ctx.activation, residual = inputs
    ctx.residual_dtype = None if residual is None else residual.dtype
    ctx.save_for_backward(x, weight, bias)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    dresidual = grad.to(ctx.residual_dtype) if ctx.needs_input_grad[5] else None
    if not any(ctx.needs_input_grad[:3]):
        return None, None, None, None, None, dresidual
    x, weight, bias = ctx.saved_tensors
    dx, dweight, dbias = BACKWARD(grad, x, weight, bias, ctx.eps, ctx.activation)
    return dx, dweight, None if bias is None else dbias, None, None, dresidual


BACKWARD = Op(
    name=_NAME + "_backward",
    schema="(Tensor grad, Tensor x, Tensor weight, Tensor? bias, float eps, str activation)"
    " -> (Tensor, Tensor, Tensor)",
    reference=reference.backward,
    fake=_fake_backward,
    backends=[
        triton_backend(__package__, "backward", launch.backward_why_not),
        Backend("cpu", "cpu", _cpu.backward, _cpu.backward_why_not, _cpu.VERIFIED),
        Backend("torch", "any", _torch.backward, _torch.backward_why_not, _torch.VERIFIED),
    ],
)

FORWARD = Op(
    name=_NAME,
    schema="(Tensor x, Tensor weight, Tensor? bias, float eps, str activation,"
    " Tensor? residual) -> Tensor",
    reference=reference.forward,
    fake=_fake,
    backends=[
        triton_backend(__package__, "forward", launch.why_not),
        Backend("cpu", "cpu", _cpu.forward, _cpu.why_not, _cpu.VERIFIED),
        Backend("torch", "any", _torch.forward, _torch.why_not, _torch.VERIFIED),
    ],
    prepare=_prepare,
    backward=_backward,
    setup_context=_save,
)
