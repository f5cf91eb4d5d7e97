"""glu_mb_conv: the gated, inverted bottleneck of the Video DC-AE, up to its norm."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor

from .. import contract
from ..common.availability import triton_backend
from ..registry import Backend, Op
from . import _cpu, _torch, launch, reference

_NAME = "glu_mb_conv"


def glu_mb_conv(
    x: Tensor,
    inverted_weight: Tensor,
    inverted_bias: Tensor,
    depth_weight: Tensor,
    depth_bias: Tensor,
    point_weight: Tensor,
) -> Tensor:
    r"""Widen to 2·M channels, activate, convolve each over 3x3x3, gate one half, narrow.

    .. math:: h = \mathrm{silu}(W_1 x + b_1),\quad (v, g) = d * h + b_2,\quad
              y = W_2\,(v \cdot \mathrm{silu}(g))

    where \* is a depthwise convolution between zeros and v and g are the halves of its channels.
    h, as large as eight videos x in the Video DC-AE, never exists as a whole.

    Args:
        x: [B, C, T, H, W], any floating dtype; any strides.
        inverted_weight: [2·M, C, 1, 1, 1], dtype of `x`.
        inverted_bias: [2·M], dtype of `x`.
        depth_weight: [2·M, 1, 3, 3, 3], dtype of `x`.
        depth_bias: [2·M], dtype of `x`.
        point_weight: [O, M, 1, 1, 1], dtype of `x`.

    Returns:
        [B, O, T, H, W], dtype of `x`; channels-last-3d where `x` is, else contiguous.

    Numerics:
        Every sum (over C, over the 27 taps, over M) and both SiLUs are computed in fp32 (fp64 for
        fp64), and so is everything between the products. The definition rounds once, at the end;
        the backends round to the dtype of `x` also the first product and v · silu(g), backwards
        their gradients. What is added up over chunks of channels is added up in fp32.
        Deterministic. The backward computes h again, from `x` and the parameters alone. Autocast:
        runs in autocast's dtype.

    Raises:
        TypeError: not floating-point tensors of one dtype.
        ValueError: shapes or devices do not fit.

    Source: the GLUMBConv of the Video DC-AE of Open-Sora 2.0; Xie et al., SANA (2024), section 2.2.
    """
    return cast(
        Tensor,
        FORWARD(
            *_prepare(x, inverted_weight, inverted_bias, depth_weight, depth_bias, point_weight)
        ),
    )


def _prepare(
    x: Tensor,
    inverted_weight: Tensor,
    inverted_bias: Tensor,
    depth_weight: Tensor,
    depth_bias: Tensor,
    point_weight: Tensor,
) -> tuple[Tensor, ...]:
    tensors = {
        "x": x,
        "inverted_weight": inverted_weight,
        "inverted_bias": inverted_bias,
        "depth_weight": depth_weight,
        "depth_bias": depth_bias,
        "point_weight": point_weight,
    }
    contract.check_tensors(_NAME, **tensors)
    if x.dim() != 5 or x.shape[1] < 1:
        raise ValueError(f"{_NAME}: x must be [B, C, T, H, W], got shape {list(x.shape)}")
    width = inverted_weight.shape[0] if inverted_weight.dim() else 0
    if width < 2 or width % 2:
        raise ValueError(
            f"{_NAME}: inverted_weight must have an even number of output channels, got shape "
            f"{list(inverted_weight.shape)}"
        )
    contract.check_shape(_NAME, "inverted_weight", inverted_weight, (width, x.shape[1], 1, 1, 1))
    contract.check_shape(_NAME, "inverted_bias", inverted_bias, (width,))
    contract.check_shape(_NAME, "depth_weight", depth_weight, (width, 1, 3, 3, 3))
    contract.check_shape(_NAME, "depth_bias", depth_bias, (width,))
    outputs = max(point_weight.shape[0], 1) if point_weight.dim() else 1
    contract.check_shape(_NAME, "point_weight", point_weight, (outputs, width // 2, 1, 1, 1))
    if not contract.autocast_is_on(x.device):
        contract.check_same_dtype(_NAME, **tensors)
    return tuple(tensors.values())


def _fake(x: Tensor, *parameters: Tensor) -> Tensor:
    shape = (x.shape[0], parameters[-1].shape[0], *x.shape[2:])
    return torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=contract.layout_of(x))


def _fake_backward(grad: Tensor, x: Tensor, *parameters: Tensor) -> tuple[Tensor, ...]:
    dx = torch.empty_like(x, memory_format=contract.layout_of(x))
    return dx, *(parameter.new_empty(parameter.shape) for parameter in parameters)


def _save(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor, ...]:
    return cast(tuple[Tensor, ...], BACKWARD(grad, *ctx.saved_tensors))


_ARGUMENTS = (
    "Tensor x, Tensor inverted_weight, Tensor inverted_bias, Tensor depth_weight,"
    " Tensor depth_bias, Tensor point_weight"
)

BACKWARD = Op(
    name=_NAME + "_backward",
    schema=f"(Tensor grad, {_ARGUMENTS}) -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)",
    reference=reference.backward,
    fake=_fake_backward,
    backends=[
        triton_backend(__package__, "backward", launch.backward_why_not, module="_triton_backward"),
        Backend("cpu", "cpu", _cpu.backward, _cpu.backward_why_not, _cpu.VERIFIED),
        Backend("torch", "any", _torch.backward, _torch.backward_why_not, _torch.VERIFIED),
    ],
)

FORWARD = Op(
    name=_NAME,
    schema=f"({_ARGUMENTS}) -> Tensor",
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
