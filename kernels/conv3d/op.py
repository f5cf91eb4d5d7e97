"""conv3d: a 3-D convolution with zeros around, and what surrounds it in the Video DC-AE."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor

from .. import contract
from ..causal_conv3d import op as causal
from ..common.availability import triton_backend
from ..registry import Backend, Op
from . import _cpu, _torch, launch, reference

_NAME = "conv3d"


def conv3d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Sequence[int] = (1, 1, 1),
    scale: Sequence[int] = (1, 1, 1),
    silu: bool = False,
    shortcut: bool = False,
    pad_rows: bool = True,
) -> Tensor:
    r"""Activate, enlarge, convolve between zeros, and add a shortcut around all of it.

    .. math:: y_{o,t,h,w} = b_o + \sum_{c,i,j,k} w_{o,c,i,j,k}\;
              p_{c,\, s_T t+i,\, s_H h+j,\, s_W w+k} + r(x)_{o,t,h,w}

    where p is x, or :math:`x \cdot \sigma(x)`, with every frame, row and column repeated `scale`
    times and k//2 zeros on both sides of every axis: frames look into the future, too. The
    shortcut r has no parameters. With a stride, or where O ≤ C, it is pixel_unshuffle_average3d by
    the stride; else channel_duplicate_shuffle3d by `scale`.

    Args:
        x: [B, C, T, H, W], any floating dtype; any strides.
        weight: [O, C, kT, kH, kW], dtype of `x`.
        bias: [O], dtype of `x`; None adds nothing.
        stride: steps in T, H, W, each at least 1; not together with `scale`.
        scale: factors of the nearest upsampling in T, H, W, each at least 1.
        silu: activate x first.
        shortcut: add the shortcut.
        pad_rows: False leaves out the zeros above and below: x is a slab of rows with the
            neighbours that its outputs look at, and kH - 1 rows more than they are. Not together
            with `shortcut`.

    Returns:
        [B, O, T', H', W'], dtype of `x`; channels-last-3d where `x` is, else contiguous. T' is
        (scale·T + 2·(kT//2) - kT) // stride + 1.

    Numerics:
        Products summed in fp32 (fp64 for fp64), rounded once with the shortcut; the activated x may
        be rounded to its dtype or not. Folding the upsampling in changes the order of sums only.
        The C++ kernel multiplies transformed values (Winograd) in fp32: 3e-6 relative L2 error; see
        docs/numerics.md. Autocast: runs in autocast's dtype.

    Raises:
        TypeError: not floating-point tensors of one dtype.
        ValueError: shapes, stride, scale, the shortcut's channels or devices do not fit.

    Source: the convolutions, residual blocks and re-sampling blocks of the Video DC-AE of
    Open-Sora 2.0; Chen et al., Deep Compression Autoencoder (2024), section 3.2, for the shortcuts.
    """
    return cast(
        Tensor, FORWARD(*_prepare(x, weight, bias, stride, scale, silu, shortcut, pad_rows))
    )


def _prepare(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Sequence[int] = (1, 1, 1),
    scale: Sequence[int] = (1, 1, 1),
    silu: bool = False,
    shortcut: bool = False,
    pad_rows: bool = True,
) -> tuple[Any, ...]:
    causal.check(_NAME, x, weight, bias)
    for name, steps in (("stride", stride), ("scale", scale)):
        if len(steps) != 3 or any(step < 1 for step in steps):
            raise ValueError(
                f"{_NAME}: {name} must be three numbers of at least 1, got {list(steps)}"
            )
    if tuple(stride) != (1, 1, 1) and tuple(scale) != (1, 1, 1):
        raise ValueError(
            f"{_NAME}: a stride {list(stride)} and a scale {list(scale)} exclude each other"
        )
    size = reference.output_size(x.shape[2:], weight.shape[2:], stride, scale, pad_rows)
    if any(length < 1 for length in (*x.shape[2:], *size)):
        raise ValueError(
            f"{_NAME}: x of T, H, W {list(x.shape[2:])} is too small for a kernel of "
            f"{list(weight.shape[2:])}"
        )
    if shortcut and not pad_rows:
        raise ValueError(f"{_NAME}: a shortcut needs pad_rows: slabs of rows have none")
    if shortcut:
        _check_shortcut(x, weight, stride, scale, size)
    return x, weight, bias, list(stride), list(scale), bool(silu), bool(shortcut), bool(pad_rows)


def _check_shortcut(
    x: Tensor,
    weight: Tensor,
    stride: Sequence[int],
    scale: Sequence[int],
    size: Sequence[int],
) -> None:
    channels, out_channels = x.shape[1], weight.shape[0]
    down, up = stride[0] * stride[1] * stride[2], scale[0] * scale[1] * scale[2]
    expected = [n * f // s for n, f, s in zip(x.shape[2:], scale, stride, strict=True)]
    if list(size) != expected or any(n % s for n, s in zip(x.shape[2:], stride, strict=True)):
        raise ValueError(
            f"{_NAME}: a shortcut needs an odd kernel and T, H, W {list(x.shape[2:])} divisible by "
            f"the stride {list(stride)}"
        )
    # Down: groups of channels are averaged; up: channels are repeated.
    is_down = down > 1 or reference.averages(channels, out_channels, scale)
    if channels * down % out_channels if is_down else out_channels * up % channels:
        raise ValueError(
            f"{_NAME}: a shortcut from {channels} to {out_channels} channels with stride "
            f"{list(stride)} and scale {list(scale)} leaves unequal groups of channels"
        )


def _fake(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    scale: Sequence[int],
    silu: bool,
    shortcut: bool,
    pad_rows: bool,
) -> Tensor:
    size = reference.output_size(x.shape[2:], weight.shape[2:], stride, scale, pad_rows)
    shape = (x.shape[0], weight.shape[0], *size)
    return torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=contract.layout_of(x))


def _fake_backward(
    grad: Tensor,
    x: Tensor,
    weight: Tensor,
    stride: Sequence[int],
    scale: Sequence[int],
    silu: bool,
    shortcut: bool,
    pad_rows: bool,
    needs: Sequence[bool],
) -> tuple[Tensor, Tensor, Tensor]:
    return causal.fake_gradients(x, weight, needs)


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, weight, _, *ctx.settings = inputs
    ctx.save_for_backward(x, weight)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    needs = list(ctx.needs_input_grad[:3])
    grads = BACKWARD(grad, *ctx.saved_tensors, *ctx.settings, needs)
    kept = (g if need else None for g, need in zip(grads, needs, strict=True))
    return (*kept, *(None for _ in ctx.settings))


BACKWARD = Op(
    name=_NAME + "_backward",
    schema="(Tensor grad, Tensor x, Tensor weight, int[3] stride, int[3] scale, bool silu,"
    " bool shortcut, bool pad_rows, bool[3] needs) -> (Tensor, Tensor, Tensor)",
    reference=reference.backward,
    fake=_fake_backward,
    backends=[
        triton_backend(__package__, "backward", launch.backward_why_not, "_triton_backward"),
        Backend("cpu", "cpu", _cpu.backward, _cpu.backward_why_not, _cpu.VERIFIED),
        Backend("torch", "any", _torch.backward, _torch.backward_why_not, _torch.VERIFIED),
    ],
)

FORWARD = Op(
    name=_NAME,
    schema="(Tensor x, Tensor weight, Tensor? bias, int[3] stride, int[3] scale, bool silu,"
    " bool shortcut, bool pad_rows) -> Tensor",
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
