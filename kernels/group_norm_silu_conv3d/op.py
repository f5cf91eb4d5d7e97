"""group_norm_silu_conv3d: GroupNorm, SiLU, causal convolution and residual, in one op."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, overload

import torch
from torch import Tensor

from .. import contract
from .. import moments as of_channels
from ..causal_conv3d import op as conv
from ..common.availability import triton_backend
from ..group_norm_silu import op as norm
from ..registry import Backend, Op
from . import _cpu, _cuda, _torch, launch, reference

_NAME = "group_norm_silu_conv3d"


@overload
def group_norm_silu_conv3d(
    x: Tensor,
    norm_weight: Tensor,
    norm_bias: Tensor,
    num_groups: int,
    weight: Tensor,
    bias: Tensor | None = ...,
    residual: Tensor | None = ...,
    eps: float = ...,
    moments: Tensor | None = ...,
    gather_moments: Literal[False] = ...,
    pad_rows: bool = ...,
) -> Tensor: ...
@overload
def group_norm_silu_conv3d(
    x: Tensor,
    norm_weight: Tensor,
    norm_bias: Tensor,
    num_groups: int,
    weight: Tensor,
    bias: Tensor | None = ...,
    residual: Tensor | None = ...,
    eps: float = ...,
    moments: Tensor | None = ...,
    *,
    gather_moments: Literal[True],
    pad_rows: bool = ...,
) -> tuple[Tensor, Tensor]: ...
def group_norm_silu_conv3d(
    x: Tensor,
    norm_weight: Tensor,
    norm_bias: Tensor,
    num_groups: int,
    weight: Tensor,
    bias: Tensor | None = None,
    residual: Tensor | None = None,
    eps: float = 1e-6,
    moments: Tensor | None = None,
    gather_moments: bool = False,
    pad_rows: bool = True,
) -> Tensor | tuple[Tensor, Tensor]:
    r"""Normalise, activate, convolve causally, add.

    .. math:: y = \mathrm{causal\_conv3d}(\mathrm{group\_norm\_silu}(x), w, b) + r

    with stride 1 and replicated borders: two of these are a residual block.

    Args:
        x: [B, C, T, H, W], any floating dtype; any strides.
        norm_weight: [C], any floating dtype.
        norm_bias: [C], any floating dtype.
        num_groups: number of groups; divides C.
        weight: [O, C, kT, kH, kW] with odd kH and kW, dtype of `x`.
        bias: [O], dtype of `x`; None adds nothing.
        residual: [B, O, T, H', W], dtype of `x`; None adds nothing.
        eps: added to the variance.
        moments: [B, 2, C] in fp32 (fp64 for fp64), means and variances of the channels of `x` as
            the convolution that made it gathered them: spares reading x for them. They must be
            those of `x` and are used as they are. Under autocast they are taken from x again.
        gather_moments: also return mean and variance of every channel of y, for the norm behind it.
        pad_rows: False repeats no row above and below: x is a slab of rows with the neighbours that
            its outputs look at, kH - 1 rows more than they are, and `moments` are those of the
            whole that the slab is from. Gradients then take them as constants.

    Returns:
        [B, O, T, H', W], dtype of `x`; channels-last-3d where `x` is, else contiguous. H' is H, or
        H - kH + 1 without `pad_rows`.
        With `gather_moments` a pair: y, and [B, 2, O] in fp32 (fp64 for fp64), means and variances;
        no gradient flows through them.

    Numerics:
        As the two ops; the activated video may be rounded to the dtype of `x` or not, and so may
        the sum before the residual. Autocast: runs in autocast's dtype.

    Raises:
        TypeError: not floating-point tensors, or x, weight, bias and residual of several dtypes.
        ValueError: shapes, groups, eps or devices do not fit, or a slab comes under autocast.

    Source: the resnet block of the HunyuanVideo VAE.
    """
    args = _prepare(
        x, norm_weight, norm_bias, num_groups, weight, bias, residual, eps, moments,
        gather_moments, pad_rows,
    )  # fmt: skip
    y, gathered = FORWARD(*args)
    return (y, gathered) if gather_moments else y


def _prepare(
    x: Tensor,
    norm_weight: Tensor,
    norm_bias: Tensor,
    num_groups: int,
    weight: Tensor,
    bias: Tensor | None = None,
    residual: Tensor | None = None,
    eps: float = 1e-6,
    moments: Tensor | None = None,
    gather_moments: bool = False,
    pad_rows: bool = True,
) -> tuple[Any, ...]:
    contract.check_tensors(_NAME, x=x, weight=weight, residual=residual)
    norm.check(_NAME, x, norm_weight, norm_bias, num_groups, eps)
    conv.check(_NAME, x, weight, bias)
    if any(size % 2 == 0 for size in weight.shape[3:]):
        raise ValueError(f"{_NAME}: kernels must be odd in H and W, got {list(weight.shape[2:])}")
    if not pad_rows and x.shape[3] < weight.shape[3]:
        raise ValueError(
            f"{_NAME}: a slab of {x.shape[3]} rows is too small for a kernel of "
            f"{list(weight.shape[2:])}"
        )
    if residual is not None:
        contract.check_shape(_NAME, "residual", residual, _shape(x, weight, pad_rows))
        if not contract.autocast_is_on(x.device):
            contract.check_same_dtype(_NAME, x=x, residual=residual)
    if moments is not None:
        contract.check_shape(_NAME, "moments", moments, (x.shape[0], 2, x.shape[1]))
        if moments.dtype is not contract.wide(x.dtype):
            raise TypeError(
                f"{_NAME}: moments is {moments.dtype}, expected {contract.wide(x.dtype)}"
            )
        if contract.autocast_is_on(x.device):
            # It would round them to its dtype, and x with them.
            if not pad_rows:
                raise ValueError(
                    f"{_NAME}: autocast would round the moments of a slab's whole; give x in the "
                    "dtype to compute in, outside of autocast"
                )
            moments = None
    affine = (norm_weight, norm_bias, num_groups, float(eps))
    return x, *affine, weight, bias, residual, moments, bool(gather_moments), bool(pad_rows)


def _shape(x: Tensor, weight: Tensor, pad_rows: bool) -> tuple[int, ...]:
    return reference.output_shape(x.shape, weight.shape, pad_rows)


def _fake(
    x: Tensor,
    norm_weight: Tensor,
    norm_bias: Tensor,
    num_groups: int,
    eps: float,
    weight: Tensor,
    bias: Tensor | None,
    residual: Tensor | None,
    moments: Tensor | None,
    gather: bool,
    pad_rows: bool,
) -> tuple[Tensor, Tensor]:
    layout = contract.layout_of(x)
    y = torch.empty(
        _shape(x, weight, pad_rows), dtype=x.dtype, device=x.device, memory_format=layout
    )
    return y, of_channels.fake_moments(x, y, gather)


def _fake_backward(
    grad: Tensor,
    x: Tensor,
    norm_weight: Tensor,
    norm_bias: Tensor,
    num_groups: int,
    eps: float,
    weight: Tensor,
    moments: Tensor | None,
    pad_rows: bool,
    needs: Sequence[bool],
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    dx, dweight, dbias = conv.fake_gradients(x, weight, needs)
    if not needs[0]:
        return dx, x.new_empty(0), x.new_empty(0), dweight, dbias
    scale, shift = norm_weight.new_empty(norm_weight.shape), norm_bias.new_empty(norm_bias.shape)
    return dx, scale, shift, dweight, dbias


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    x, norm_weight, norm_bias, ctx.num_groups, ctx.eps, weight, *_, moments, _, _ = inputs
    ctx.pad_rows = inputs[-1]
    ctx.mark_non_differentiable(output[1])
    ctx.set_materialize_grads(False)
    # Of x itself they depend on x, and are taken again.
    fixed = None if ctx.pad_rows else moments
    ctx.save_for_backward(x, norm_weight, norm_bias, weight, fixed)


def _backward(ctx: Any, grad: Tensor | None, _: None) -> tuple[Tensor | None, ...]:
    if grad is None:
        return (None,) * 11
    wanted = ctx.needs_input_grad
    x, norm_weight, norm_bias, weight, fixed = ctx.saved_tensors
    needs = [any(wanted[:3]), wanted[5], wanted[6]]
    dx, dscale, dshift, dweight, dbias = BACKWARD(
        grad, x, norm_weight, norm_bias, ctx.num_groups, ctx.eps, weight, fixed, ctx.pad_rows, needs
    )
    grads = (dx, dscale, dshift, None, None, dweight, dbias, grad, None, None, None)
    return tuple(g if need else None for g, need in zip(grads, wanted, strict=True))


BACKWARD = Op(
    name=_NAME + "_backward",
    schema="(Tensor grad, Tensor x, Tensor norm_weight, Tensor norm_bias, int num_groups,"
    " float eps, Tensor weight, Tensor? moments, bool pad_rows, bool[3] needs)"
    " -> (Tensor, Tensor, Tensor, Tensor, Tensor)",
    reference=reference.backward,
    fake=_fake_backward,
    backends=[
        triton_backend(__package__, "backward", launch.backward_why_not, "_triton_backward"),
        Backend("torch", "any", _torch.backward, _torch.why_not, _torch.VERIFIED),
    ],
)

FORWARD = Op(
    name=_NAME,
    schema="(Tensor x, Tensor norm_weight, Tensor norm_bias, int num_groups, float eps,"
    " Tensor weight, Tensor? bias, Tensor? residual, Tensor? moments, bool gather,"
    " bool pad_rows) -> (Tensor, Tensor)",
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
    autocast=True,
)
