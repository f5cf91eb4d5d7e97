"""nearest_upsample3d: nearest-neighbour upsampling of a causal video."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor

from .. import contract
from ..common.availability import triton_backend
from ..registry import Backend, Op
from . import _torch, launch, reference

_NAME = "nearest_upsample3d"


def nearest_upsample3d(x: Tensor, scale: Sequence[int]) -> Tensor:
    r"""Repeat every pixel, the first frame in space only.

    .. math:: y_{t,h,w} =
              x_{\lceil t / s_T \rceil,\; \lfloor h / s_H \rfloor,\; \lfloor w / s_W \rfloor}

    Args:
        x: [B, C, T, H, W], any floating dtype; any strides.
        scale: factors for T, H, W, each at least 1.

    Returns:
        [B, C, 1 + sT·(T - 1), sH·H, sW·W], dtype of `x`; channels-last-3d where `x` is, else
        contiguous.

    Numerics:
        Copies bits. The backward sums in fp32 (fp64 for fp64) and rounds once. Deterministic.

    Raises:
        TypeError: x is not a floating-point tensor.
        ValueError: x has no frame or is not 5-D, or a factor is below 1.

    Source: the upsampler of the HunyuanVideo VAE.
    """
    return cast(Tensor, FORWARD(*_prepare(x, scale)))


def _prepare(x: Tensor, scale: Sequence[int]) -> tuple[Any, ...]:
    check(_NAME, x, scale)
    return x, list(scale)


def check(op: str, x: Tensor, scale: Sequence[int]) -> None:
    """Raise unless x is a video and scale three factors, for this op and its relatives.

    Raises:
        TypeError: x is not a floating-point tensor.
        ValueError: x has no frame or is not 5-D, or a factor is below 1.
    """
    contract.check_tensors(op, x=x)
    if x.dim() != 5 or x.shape[2] < 1:
        raise ValueError(
            f"{op}: x must be [B, C, T, H, W] with at least one frame, got shape {list(x.shape)}"
        )
    if len(scale) != 3 or any(factor < 1 for factor in scale):
        raise ValueError(f"{op}: scale must be three numbers of at least 1, got {list(scale)}")


def _fake(x: Tensor, scale: Sequence[int]) -> Tensor:
    batch, channels, frames, height, width = x.shape
    times, rows, columns = scale
    return torch.empty(
        (batch, channels, 1 + times * (frames - 1), rows * height, columns * width),
        dtype=x.dtype,
        device=x.device,
        memory_format=contract.layout_of(x),
    )


def _fake_backward(grad: Tensor, scale: Sequence[int]) -> Tensor:
    batch, channels, frames, height, width = grad.shape
    times, rows, columns = scale
    return torch.empty(
        (batch, channels, 1 + (frames - 1) // times, height // rows, width // columns),
        dtype=grad.dtype,
        device=grad.device,
        memory_format=contract.layout_of(grad),
    )


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    _, ctx.scale = inputs


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    return BACKWARD(grad, ctx.scale), None


BACKWARD = Op(
    name=_NAME + "_backward",
    schema="(Tensor grad, int[3] scale) -> Tensor",
    reference=reference.backward,
    fake=_fake_backward,
    backends=[
        triton_backend(__package__, "backward", launch.why_not),
        Backend("torch", "any", _torch.backward, None, _torch.VERIFIED),
    ],
)

FORWARD = Op(
    name=_NAME,
    schema="(Tensor x, int[3] scale) -> Tensor",
    reference=reference.forward,
    fake=_fake,
    backends=[
        triton_backend(__package__, "forward", launch.why_not),
        Backend("torch", "any", _torch.forward, None, _torch.VERIFIED),
    ],
    prepare=_prepare,
    backward=_backward,
    setup_context=_save,
)
