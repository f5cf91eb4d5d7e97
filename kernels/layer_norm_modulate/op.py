"""layer_norm_modulate: LayerNorm without weights, then each sample's own scale and shift."""

from __future__ import annotations

from typing import Any, cast

from torch import Tensor

from .. import contract
from ..common.availability import triton_backend
from ..registry import Backend, Op
from . import _cpu, _torch, launch, reference

_NAME = "layer_norm_modulate"


def layer_norm_modulate(x: Tensor, shift: Tensor, scale: Tensor, eps: float = 1e-6) -> Tensor:
    r"""Normalise every token over its channels, then scale and shift by the sample's modulation.

    .. math:: y_{blm} = (x_{blm} - \mu_{bl}) / \sqrt{\sigma^2_{bl} + \epsilon}
              \cdot (1 + s_{bm}) + t_{bm}

    Args:
        x: [B, L, M], any floating dtype; any strides.
        shift: [B, M], any floating dtype.
        scale: [B, M], any floating dtype.
        eps: added to the (biased) variance.

    Returns:
        [B, L, M], dtype of `x`, contiguous.

    Numerics:
        Computed in fp32 (fp64 for fp64), two-pass statistics, rounded once; on CUDA the library
        routine also rounds LN(x) and 1 + scale to the dtype of `x`. Deterministic.

    Raises:
        TypeError: an argument is not a floating-point tensor.
        ValueError: shapes, eps or devices do not fit.

    Source: Ba et al., Layer Normalization (2016); Peebles and Xie, DiT (2023), adaLN.
    """
    return cast(Tensor, FORWARD(*_prepare(x, shift, scale, eps)))


def _prepare(x: Tensor, shift: Tensor, scale: Tensor, eps: float = 1e-6) -> tuple[Any, ...]:
    check(_NAME, x, shift, scale, eps)
    return x, shift, scale, float(eps)


def check(op: str, x: Tensor, shift: Tensor, scale: Tensor, eps: float) -> None:
    """Raise unless the arguments fit each other, for this op and its relatives.

    Raises:
        TypeError: an argument is not a floating-point tensor.
        ValueError: shapes, eps or devices do not fit.
    """
    contract.check_tensors(op, x=x, shift=shift, scale=scale)
    if x.dim() != 3 or x.shape[2] < 1:
        raise ValueError(f"{op}: x must be [B, L, M], got shape {list(x.shape)}")
    contract.check_shape(op, "shift", shift, (x.shape[0], x.shape[2]))
    contract.check_shape(op, "scale", scale, (x.shape[0], x.shape[2]))
    if eps < 0:
        raise ValueError(f"{op}: eps must not be negative, got {eps}")


def _fake(x: Tensor, shift: Tensor, scale: Tensor, eps: float) -> Tensor:
    return x.new_empty(x.shape)


def _fake_backward(
    grad: Tensor, x: Tensor, shift: Tensor, scale: Tensor, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    return x.new_empty(x.shape), shift.new_empty(shift.shape), scale.new_empty(scale.shape)


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    *tensors, ctx.eps = inputs
    ctx.save_for_backward(*tensors)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    return (*BACKWARD(grad, *ctx.saved_tensors, ctx.eps), None)


BACKWARD = Op(
    name=_NAME + "_backward",
    schema="(Tensor grad, Tensor x, Tensor shift, Tensor scale, float eps)"
    " -> (Tensor, Tensor, Tensor)",
    reference=reference.backward,
    fake=_fake_backward,
    backends=[
        triton_backend(__package__, "backward", launch.backward_why_not),
        Backend("torch", "any", _torch.backward, _torch.why_not, _torch.VERIFIED),
    ],
)

FORWARD = Op(
    name=_NAME,
    schema="(Tensor x, Tensor shift, Tensor scale, float eps) -> Tensor",
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
