"""upsample_conv3d: nearest upsampling of a causal video, and the convolution behind it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, overload

import torch
from torch import Tensor

from .. import contract, moments
from ..causal_conv3d import op as conv
from ..common.availability import triton_backend
from ..nearest_upsample3d import op as upsample
from ..registry import Backend, Op
from . import _cpu, _torch, launch, reference

_NAME = "upsample_conv3d"


@overload
def upsample_conv3d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = ...,
    scale: Sequence[int] = ...,
    gather_moments: Literal[False] = ...,
) -> Tensor: ...
@overload
def upsample_conv3d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = ...,
    scale: Sequence[int] = ...,
    *,
    gather_moments: Literal[True],
) -> tuple[Tensor, Tensor]: ...
def upsample_conv3d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    scale: Sequence[int] = (2, 2, 2),
    gather_moments: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    r"""Enlarge a video, the first frame in space only, and convolve the result causally.

    .. math:: y = \mathrm{causal\_conv3d}(\mathrm{nearest\_upsample3d}(x, s), w, b)

    Args:
        x: [B, C, T, H, W], any floating dtype; any strides.
        weight: [O, C, kT, kH, kW], dtype of `x`.
        bias: [O], dtype of `x`; None adds nothing.
        scale: factors for T, H, W, each at least 1.
        gather_moments: also return mean and variance of every channel of y, for the norm behind it.

    Returns:
        [B, O, 1 + sT·(T - 1), sH·H, sW·W], dtype of `x`; channels-last-3d where `x` is, else
        contiguous. Borders are replicated.
        With `gather_moments` a pair: y, and [B, 2, O] in fp32 (fp64 for fp64), means and variances;
        no gradient flows through them.

    Numerics:
        As causal_conv3d: the enlarged video holds copies, so folding it in changes the order of
        sums only. Autocast: runs in autocast's dtype.

    Raises:
        TypeError: not floating-point tensors of one dtype.
        ValueError: shapes, scale or devices do not fit.

    Source: the upsampler of the HunyuanVideo VAE.
    """
    y, gathered = FORWARD(*_prepare(x, weight, bias, scale, gather_moments))
    return (y, gathered) if gather_moments else y


def _prepare(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    scale: Sequence[int] = (2, 2, 2),
    gather_moments: bool = False,
) -> tuple[Any, ...]:
    upsample.check(_NAME, x, scale)
    conv.check(_NAME, x, weight, bias)
    return x, weight, bias, list(scale), bool(gather_moments)


def _fake(
    x: Tensor, weight: Tensor, bias: Tensor | None, scale: Sequence[int], gather: bool
) -> tuple[Tensor, Tensor]:
    shape = (x.shape[0], weight.shape[0], *reference.output_size(x.shape[2:], scale))
    y = torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=contract.layout_of(x))
    return y, moments.fake_moments(x, y, gather)


def _fake_backward(
    grad: Tensor, x: Tensor, weight: Tensor, scale: Sequence[int], needs: Sequence[bool]
) -> tuple[Tensor, Tensor, Tensor]:
    return conv.fake_gradients(x, weight, needs)


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    x, weight, _, ctx.scale, _ = inputs
    ctx.mark_non_differentiable(output[1])
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(x, weight)


def _backward(ctx: Any, grad: Tensor | None, _: None) -> tuple[Tensor | None, ...]:
    if grad is None:
        return (None,) * 5
    needs = list(ctx.needs_input_grad[:3])
    grads = BACKWARD(grad, *ctx.saved_tensors, ctx.scale, needs)
    return (*(g if need else None for g, need in zip(grads, needs, strict=True)), None, None)


BACKWARD = Op(
    name=_NAME + "_backward",
    schema="(Tensor grad, Tensor x, Tensor weight, int[3] scale, bool[3] needs)"
    " -> (Tensor, Tensor, Tensor)",
    reference=reference.backward,
    fake=_fake_backward,
    backends=[
        triton_backend(__package__, "backward", launch.backward_why_not, "_triton_backward"),
        Backend("torch", "any", _torch.backward, _torch.backward_why_not, _torch.VERIFIED),
    ],
)

FORWARD = Op(
    name=_NAME,
    schema="(Tensor x, Tensor weight, Tensor? bias, int[3] scale, bool gather) -> (Tensor, Tensor)",
    reference=moments.gathered_after(reference.forward, 4),
    fake=_fake,
    backends=[
        moments.row_gathering_after(triton_backend(__package__, "forward", launch.why_not), 4),
        Backend("cpu", "cpu", _cpu.forward, _cpu.why_not, _cpu.VERIFIED),
        moments.row_gathering_after(
            Backend("torch", "any", _torch.forward, _torch.why_not, _torch.VERIFIED), 4
        ),
    ],
    prepare=_prepare,
    backward=_backward,
    setup_context=_save,
    autocast=True,
)
