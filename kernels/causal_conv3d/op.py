"""causal_conv3d: a 3-D convolution that never looks into the future."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, overload

import torch
from torch import Tensor

from .. import contract, moments
from ..common.availability import triton_backend
from ..registry import Backend, Op
from . import _cpu, _torch, launch, launch_backward, reference

_NAME = "causal_conv3d"
_PAD_MODES = ("replicate", "zeros", "valid", "replicate_rows")


@overload
def causal_conv3d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = ...,
    stride: Sequence[int] = ...,
    pad_mode: str = ...,
    gather_moments: Literal[False] = ...,
) -> Tensor: ...
@overload
def causal_conv3d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = ...,
    stride: Sequence[int] = ...,
    pad_mode: str = ...,
    *,
    gather_moments: Literal[True],
) -> tuple[Tensor, Tensor]: ...
def causal_conv3d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Sequence[int] = (1, 1, 1),
    pad_mode: str = "replicate",
    gather_moments: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    r"""Convolve a video, padding time in front only.

    .. math:: y_{o,t,h,w} =
              b_o + \sum_{c,i,j,k} w_{o,c,i,j,k}\; p_{c,\, s_T t+i,\, s_H h+j,\, s_W w+k}

    where p is x with kT-1 frames added in front, kH//2 rows and kW//2 columns on both sides.

    Args:
        x: [B, C, T, H, W], any floating dtype; any strides.
        weight: [O, C, kT, kH, kW], dtype of `x`.
        bias: [O], dtype of `x`; None adds nothing.
        stride: steps in T, H, W, each at least 1.
        pad_mode: ``"replicate"`` repeats the border, ``"zeros"`` pads with zeros, ``"valid"`` does
            not pad. ``"replicate_rows"`` repeats it in front and on the sides, not above and below:
            x is a slab of rows with the neighbours that its outputs look at.
        gather_moments: also return mean and variance of every channel of y, for the norm behind it.

    Returns:
        [B, O, T', H', W'], dtype of `x`; channels-last-3d where `x` is, else contiguous. T' =
        (T-1)//sT + 1 unless `pad_mode` is ``"valid"``; ``"replicate_rows"`` makes kH - 1 rows less
            than ``"replicate"`` before the stride.
        With `gather_moments` a pair: y, and [B, 2, O] in fp32 (fp64 for fp64), means and variances;
        no gradient flows through them.

    Numerics:
        Products summed in fp32 (fp64 for fp64), rounded once. Frame t' depends on frames up to
        sT·t' only. The C++ kernel multiplies transformed values (Winograd) in fp32: 3e-6 relative
        L2 error; see docs/numerics.md.
        Autocast: runs in autocast's dtype.

    Raises:
        TypeError: not floating-point tensors of one dtype.
        ValueError: shapes, stride, pad_mode or devices do not fit.

    Source: the causal convolution of the HunyuanVideo VAE (replicate) and of Video DC-AE (zeros).
    """
    y, gathered = FORWARD(*_prepare(x, weight, bias, stride, pad_mode, gather_moments))
    return (y, gathered) if gather_moments else y


def _prepare(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Sequence[int] = (1, 1, 1),
    pad_mode: str = "replicate",
    gather_moments: bool = False,
) -> tuple[Any, ...]:
    check(_NAME, x, weight, bias)
    if len(stride) != 3 or any(step < 1 for step in stride):
        raise ValueError(f"{_NAME}: stride must be three numbers of at least 1, got {list(stride)}")
    if pad_mode not in _PAD_MODES:
        raise ValueError(
            f"{_NAME}: unknown pad_mode {pad_mode!r}, accepted are {', '.join(_PAD_MODES)}"
        )
    if any(size < 1 for size in x.shape[2:]) or any(
        size < 1 for size in reference.output_shape(x.shape, weight.shape, stride, pad_mode)[2:]
    ):
        raise ValueError(
            f"{_NAME}: x of T, H, W {list(x.shape[2:])} is too small for a kernel of "
            f"{list(weight.shape[2:])} with pad_mode {pad_mode!r}"
        )
    return x, weight, bias, list(stride), pad_mode, bool(gather_moments)


def check(op: str, x: Tensor, weight: Tensor, bias: Tensor | None) -> None:
    """Raise unless x, weight and bias are those of a convolution, for this op and its relatives.

    Raises:
        TypeError: not floating-point tensors of one dtype.
        ValueError: shapes or devices do not fit.
    """
    contract.check_tensors(op, x=x, weight=weight, bias=bias)
    if x.dim() != 5 or weight.dim() != 5:
        raise ValueError(
            f"{op}: x must be [B, C, T, H, W] and weight [O, C, kT, kH, kW], "
            f"got shapes {list(x.shape)} and {list(weight.shape)}"
        )
    if weight.shape[1] != x.shape[1]:
        raise ValueError(f"{op}: weight has {weight.shape[1]} input channels, x has {x.shape[1]}")
    if bias is not None:
        contract.check_shape(op, "bias", bias, (weight.shape[0],))
    if not contract.autocast_is_on(x.device):
        contract.check_same_dtype(op, x=x, weight=weight, bias=weight if bias is None else bias)


def _fake(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    pad_mode: str,
    gather: bool,
) -> tuple[Tensor, Tensor]:
    shape = reference.output_shape(x.shape, weight.shape, stride, pad_mode)
    y = torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=contract.layout_of(x))
    return y, moments.fake_moments(x, y, gather)


def _fake_backward(
    grad: Tensor,
    x: Tensor,
    weight: Tensor,
    stride: Sequence[int],
    pad_mode: str,
    needs: Sequence[bool],
) -> tuple[Tensor, Tensor, Tensor]:
    return fake_gradients(x, weight, needs)


def fake_gradients(
    x: Tensor, weight: Tensor, needs: Sequence[bool]
) -> tuple[Tensor, Tensor, Tensor]:
    """Empty gradients of x, weight and bias; without elements where they are not needed."""
    layout = contract.layout_of(x)
    return (
        torch.empty_like(x, memory_format=layout) if needs[0] else x.new_empty(0),
        weight.new_empty(weight.shape) if needs[1] else x.new_empty(0),
        weight.new_empty(weight.shape[:1]) if needs[2] else x.new_empty(0),
    )


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    x, weight, _, ctx.stride, ctx.pad_mode, _ = inputs
    ctx.mark_non_differentiable(output[1])
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(x, weight)


def _backward(ctx: Any, grad: Tensor | None, _: None) -> tuple[Tensor | None, ...]:
    if grad is None:
        return (None,) * 6
    needs = list(ctx.needs_input_grad[:3])
    grads = BACKWARD(grad, *ctx.saved_tensors, ctx.stride, ctx.pad_mode, needs)
    return (*(g if need else None for g, need in zip(grads, needs, strict=True)), None, None, None)


BACKWARD = Op(
    name=_NAME + "_backward",
    schema="(Tensor grad, Tensor x, Tensor weight, int[3] stride, str pad_mode, bool[3] needs)"
    " -> (Tensor, Tensor, Tensor)",
    reference=reference.backward,
    fake=_fake_backward,
    backends=[
        triton_backend(__package__, "backward", launch_backward.why_not, "_triton_backward"),
        Backend("cpu", "cpu", _cpu.backward, _cpu.backward_why_not, _cpu.VERIFIED),
        Backend("torch", "any", _torch.backward, _torch.backward_why_not, _torch.VERIFIED),
    ],
)

FORWARD = Op(
    name=_NAME,
    schema="(Tensor x, Tensor weight, Tensor? bias, int[3] stride, str pad_mode, bool gather)"
    " -> (Tensor, Tensor)",
    reference=moments.gathered_after(reference.forward, 5),
    fake=_fake,
    backends=[
        triton_backend(__package__, "forward", launch.why_not),
        Backend("cpu", "cpu", _cpu.forward, _cpu.why_not, _cpu.VERIFIED),
        moments.row_gathering_after(
            Backend("torch", "any", _torch.forward, _torch.why_not, _torch.VERIFIED), 5
        ),
    ],
    prepare=_prepare,
    backward=_backward,
    setup_context=_save,
    autocast=True,
)
