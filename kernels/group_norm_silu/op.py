"""group_norm_silu: GroupNorm, then optionally SiLU, in one op."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor

from .. import contract
from ..common.availability import triton_backend
from ..registry import Backend, Op
from . import _cpu, _cuda, _torch, launch, reference

_NAME = "group_norm_silu"


def group_norm_silu(
    x: Tensor, weight: Tensor, bias: Tensor, num_groups: int, eps: float = 1e-6, silu: bool = True
) -> Tensor:
    r"""Normalise groups of channels over all positions, scale and shift each channel, apply SiLU.

    .. math:: y = \mathrm{silu}((x - \mu_{bg}) / \sqrt{\sigma^2_{bg} + \epsilon} \cdot w_c + b_c)

    with mean and (biased) variance over the channels of group g and all trailing axes: time too.

    Args:
        x: [B, C, ...], any floating dtype; any strides.
        weight: [C], any floating dtype.
        bias: [C], any floating dtype.
        num_groups: number of groups; divides C.
        eps: added to the variance.
        silu: apply SiLU; False gives GroupNorm alone.

    Returns:
        [B, C, ...], dtype of `x`; channels-last-3d where `x` is, else contiguous.

    Numerics:
        Statistics in fp32 (fp64 for fp64), two-pass. Rounded once at the end; the library routine
        also rounds before SiLU. Deterministic.

    Raises:
        TypeError: an argument is not a floating-point tensor.
        ValueError: shapes, groups, eps or devices do not fit.

    Source: Wu and He, Group Normalization (2018), eq. 7; the HunyuanVideo VAE's resnet block.
    """
    return cast(Tensor, FORWARD(*_prepare(x, weight, bias, num_groups, eps, silu))[0])


def _prepare(
    x: Tensor, weight: Tensor, bias: Tensor, num_groups: int, eps: float = 1e-6, silu: bool = True
) -> tuple[Any, ...]:
    check(_NAME, x, weight, bias, num_groups, eps)
    return x, weight, bias, num_groups, float(eps), silu


def check(op: str, x: Tensor, weight: Tensor, bias: Tensor, num_groups: int, eps: float) -> None:
    """Raise unless the arguments are those of a group norm, for this op and its relatives.

    Raises:
        TypeError: an argument is not a floating-point tensor.
        ValueError: shapes, groups, eps or devices do not fit.
    """
    contract.check_tensors(op, x=x, weight=weight, bias=bias)
    if x.dim() < 2:
        raise ValueError(f"{op}: x must be [B, C, ...], got shape {list(x.shape)}")
    channels = x.shape[1]
    if num_groups < 1 or channels % num_groups != 0:
        raise ValueError(f"{op}: {channels} channels cannot be split into {num_groups} groups")
    contract.check_shape(op, "weight", weight, (channels,))
    contract.check_shape(op, "bias", bias, (channels,))
    if eps < 0:
        raise ValueError(f"{op}: eps must not be negative, got {eps}")


def _fake(
    x: Tensor, weight: Tensor, bias: Tensor, num_groups: int, eps: float, silu: bool
) -> tuple[Tensor, Tensor, Tensor]:
    y = torch.empty_like(x, memory_format=contract.layout_of(x))
    statistics = x.new_empty((x.shape[0], num_groups), dtype=contract.wide(x.dtype))
    return y, statistics, torch.empty_like(statistics)


def _fake_backward(
    grad: Tensor,
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    mean: Tensor,
    rstd: Tensor,
    num_groups: int,
    eps: float,
    silu: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    dx = torch.empty_like(x, memory_format=contract.layout_of(x))
    return dx, weight.new_empty(weight.shape), bias.new_empty(bias.shape)


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    x, weight, bias, ctx.num_groups, ctx.eps, ctx.silu = inputs
    _, mean, rstd = output
    ctx.mark_non_differentiable(mean, rstd)
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(x, weight, bias, mean, rstd)


def _backward(ctx: Any, grad: Tensor | None, *_: None) -> tuple[Tensor | None, ...]:
    if grad is None:
        return (None,) * 6
    return (
        *BACKWARD(grad, *ctx.saved_tensors, ctx.num_groups, ctx.eps, ctx.silu),
        None,
        None,
        None,
    )


BACKWARD = Op(
    name=_NAME + "_backward",
    schema="(Tensor grad, Tensor x, Tensor weight, Tensor bias, Tensor mean, Tensor rstd,"
    " int num_groups, float eps, bool silu) -> (Tensor, Tensor, Tensor)",
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
    schema="(Tensor x, Tensor weight, Tensor bias, int num_groups, float eps, bool silu)"
    " -> (Tensor, Tensor, Tensor)",
    reference=reference.forward,
    fake=_fake,
    backends=[
        Backend("cuda", "cuda", _cuda.forward, _cuda.why_not),
        triton_backend(__package__, "forward", launch.why_not),
        Backend("cpu", "cpu", _cpu.forward, _cpu.why_not, _cpu.VERIFIED),
        Backend("torch", "any", _torch.forward, _torch.why_not, _torch.VERIFIED),
    ],
    prepare=_prepare,
    backward=_backward,
    setup_context=_save,
)
