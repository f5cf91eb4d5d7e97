"""upsample_conv3d: nearest upsampling of a causal video, and the convolution behind it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor

from .. import contract
from ..causal_conv3d import op as conv
from ..common.availability import triton_backend
from ..nearest_upsample3d import op as upsample
from ..registry import Backend, Op
from . import _cpu, _torch, launch, reference

_NAME = "upsample_conv3d"


def upsample_conv3d(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, scale: Sequence[int] = (2, 2, 2)
) -> Tensor:
    r"""Enlarge a video, the first frame in space only, and convolve the result causally.

    .. math:: y = \mathrm{causal\_conv3d}(\mathrm{nearest\_upsample3d}(x, s), w, b)

    Args:
        x: [B, C, T, H, W], any floating dtype; any strides.
        weight: [O, C, kT, kH, kW], dtype of `x`.
        bias: [O], dtype of `x`; None adds nothing.
        scale: factors for T, H, W, each at least 1.

    Returns:
        [B, O, 1 + sT·(T - 1), sH·H, sW·W], dtype of `x`; channels-last-3d where `x` is, else
        contiguous. Borders are replicated.

    Numerics:
        As causal_conv3d: the enlarged video holds copies, so folding it in changes the order of
        sums only. Autocast: runs in autocast's dtype.

    Raises:
        TypeError: not floating-point tensors of one dtype.
        ValueError: shapes, scale or devices do not fit.

    Source: the upsampler of the HunyuanVideo VAE.
    """
    return cast(Tensor, FORWARD(*_prepare(x, weight, bias, scale)))


def _prepare(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, scale: Sequence[int] = (2, 2, 2)
) -> tuple[Any, ...]:
    upsample.check(_NAME, x, scale)
    conv.check(_NAME, x, weight, bias)
    return x, weight, bias, list(scale)


def _fake(x: Tensor, weight: Tensor, bias: Tensor | None, scale: Sequence[int]) -> Tensor:
    shape = (x.shape[0], weight.shape[0], *reference.output_size(x.shape[2:], scale))
    return torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=contract.layout_of(x))


def _fake_backward(
    grad: Tensor, x: Tensor, weight: Tensor, scale: Sequence[int], needs: Sequence[bool]
) -> tuple[Tensor, Tensor, Tensor]:
    return conv.fake_gradients(x, weight, needs)


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, weight, _, ctx.scale = inputs
    ctx.save_for_backward(x, weight)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    needs = list(ctx.needs_input_grad[:3])
    grads = BACKWARD(grad, *ctx.saved_tensors, ctx.scale, needs)
    return (*(g if need else None for g, need in zip(grads, needs, strict=True)), None)


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
    schema="(Tensor x, Tensor weight, Tensor? bias, int[3] scale) -> Tensor",
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
    autocast=True,
)
