"""channel_duplicate_shuffle3d: channels repeated, then spread over blocks of pixels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from torch import Tensor

from ..common import pixel_shuffle
from ..common.availability import triton_backend
from ..registry import Backend, Op
from . import _cpu, _cuda, _torch, launch, reference

_NAME = "channel_duplicate_shuffle3d"


def channel_duplicate_shuffle3d(
    x: Tensor,
    out_channels: int,
    scale: Sequence[int] = (2, 2, 2),
    added: Tensor | None = None,
) -> Tensor:
    r"""Repeat channels, spread them over blocks of pixels, and add another video.

    .. math:: y_{o,\, s_T t + i,\, s_H h + j,\, s_W w + k} = a_{o, \ldots} +
              x_{\lfloor (((o s_T + i) s_H + j) s_W + k) / r \rfloor,\, t, h, w}

    with :math:`r = O s_T s_H s_W / C` copies of every channel. With a main branch as `added`, this
    is all that an up-sampling block does after its convolution.

    Args:
        x: [B, C, T, H, W], any floating dtype; any strides.
        out_channels: O; C divides O·sT·sH·sW.
        scale: size of a block in T, H, W, each at least 1.
        added: [B, O, T·sT, H·sH, W·sW], any floating dtype; any strides; None adds nothing.

    Returns:
        [B, O, T·sT, H·sH, W·sW], dtype of `x`; channels-last-3d where `x` is, else contiguous.

    Numerics:
        Copies where nothing is added; else summed in fp32 (fp64 for fp64) and rounded once.
        The backward sums in fp32 and rounds once. Deterministic.

    Raises:
        TypeError: x or added is not a floating-point tensor.
        ValueError: shapes, scale, out_channels or devices do not fit.

    Source: the shortcuts of the Video DC-AE of Open-Sora 2.0; Chen et al., Deep Compression
    Autoencoder (2024), section 3.2.
    """
    return cast(Tensor, FORWARD(*_prepare(x, out_channels, scale, added)))


def _prepare(
    x: Tensor,
    out_channels: int,
    scale: Sequence[int] = (2, 2, 2),
    added: Tensor | None = None,
) -> tuple[Any, ...]:
    pixel_shuffle.check(_NAME, x, out_channels, scale)
    shuffled = out_channels * scale[0] * scale[1] * scale[2]
    if shuffled % x.shape[1]:
        raise ValueError(
            f"{_NAME}: {out_channels} channels of blocks of {list(scale)} pixels are {shuffled}, "
            f"which do not make equal groups for the {x.shape[1]} channels of x"
        )
    size = pixel_shuffle.size_of_large(x.shape[2:], scale)
    pixel_shuffle.check_added(_NAME, x, added, (x.shape[0], out_channels, *size))
    return x, out_channels, list(scale), added


def _fake(x: Tensor, out_channels: int, scale: Sequence[int], added: Tensor | None) -> Tensor:
    size = pixel_shuffle.size_of_large(x.shape[2:], scale)
    return pixel_shuffle.new_video(x, out_channels, size)


def _fake_backward(grad: Tensor, channels: int, scale: Sequence[int]) -> Tensor:
    size = pixel_shuffle.size_of_small(grad.shape[2:], scale)
    return pixel_shuffle.new_video(grad, channels, size)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    return pixel_shuffle.gradients(BACKWARD, ctx, grad)


BACKWARD = Op(
    name=_NAME + "_backward",
    schema="(Tensor grad, SymInt channels, int[3] scale) -> Tensor",
    reference=reference.backward,
    fake=_fake_backward,
    backends=[
        Backend("cuda", "cuda", _cuda.backward, _cuda.backward_why_not),
        triton_backend(__package__, "backward", launch.backward_why_not),
        Backend("cpu", "cpu", _cpu.backward, _cpu.backward_why_not, _cpu.VERIFIED),
        Backend("torch", "any", _torch.backward, _torch.backward_why_not, _torch.VERIFIED),
    ],
)

FORWARD = Op(
    name=_NAME,
    schema="(Tensor x, SymInt out_channels, int[3] scale, Tensor? added) -> Tensor",
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
    setup_context=pixel_shuffle.save,
)
