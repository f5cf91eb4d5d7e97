"""pixel_unshuffle_average3d: blocks of pixels to channels, then means of channels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from torch import Tensor

from ..common import pixel_shuffle
from ..common.availability import triton_backend
from ..registry import Backend, Op
from . import _cpu, _cuda, _torch, launch, reference

_NAME = "pixel_unshuffle_average3d"


def pixel_unshuffle_average3d(
    x: Tensor,
    out_channels: int,
    scale: Sequence[int] = (2, 2, 2),
    added: Tensor | None = None,
) -> Tensor:
    r"""Move blocks of pixels to channels, average channels, and add another video.

    .. math:: y_o = a_o + \frac{1}{g} \sum_{u = og}^{og + g - 1} x^\prime_u, \qquad
              x^\prime_{((c s_T + i) s_H + j) s_W + k,\, t, h, w} =
              x_{c,\, s_T t + i,\, s_H h + j,\, s_W w + k}

    with :math:`g = C s_T s_H s_W / O`. With a main branch as `added`, this is all that a
    down-sampling block does after its convolution.

    Args:
        x: [B, C, T, H, W], any floating dtype; any strides. `scale` divides T, H and W.
        out_channels: O, a divisor of C·sT·sH·sW.
        scale: size of a block in T, H, W, each at least 1.
        added: [B, O, T/sT, H/sH, W/sW], any floating dtype; any strides; None adds nothing.

    Returns:
        [B, O, T/sT, H/sH, W/sW], dtype of `x`; channels-last-3d where `x` is, else contiguous.

    Numerics:
        Summed in fp32 (fp64 for fp64) and rounded once, with `added`. Deterministic.

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
    if any(length % step for length, step in zip(x.shape[2:], scale, strict=True)):
        raise ValueError(
            f"{_NAME}: x has T, H, W {list(x.shape[2:])}, not divisible by scale {list(scale)}"
        )
    unshuffled = x.shape[1] * scale[0] * scale[1] * scale[2]
    if unshuffled % out_channels:
        raise ValueError(
            f"{_NAME}: {x.shape[1]} channels of blocks of {list(scale)} pixels are {unshuffled}, "
            f"which do not make {out_channels} equal groups"
        )
    size = pixel_shuffle.size_of_small(x.shape[2:], scale)
    pixel_shuffle.check_added(_NAME, x, added, (x.shape[0], out_channels, *size))
    return x, out_channels, list(scale), added


def _fake(x: Tensor, out_channels: int, scale: Sequence[int], added: Tensor | None) -> Tensor:
    size = pixel_shuffle.size_of_small(x.shape[2:], scale)
    return pixel_shuffle.new_video(x, out_channels, size)


def _fake_backward(grad: Tensor, channels: int, scale: Sequence[int]) -> Tensor:
    size = pixel_shuffle.size_of_large(grad.shape[2:], scale)
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
