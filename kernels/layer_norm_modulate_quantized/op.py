"""layer_norm_modulate_quantized: layer_norm_modulate whose result is 8-bit rows with scales."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor

from ..common.availability import triton_backend
from ..layer_norm_modulate.op import check
from ..quantize_rows.formats import FORMATS, check_format
from ..registry import Backend, Op
from . import _cpu, _torch, launch, reference

_NAME = "layer_norm_modulate_quantized"


def layer_norm_modulate_quantized(
    x: Tensor, shift: Tensor, scale: Tensor, format: str = "int8", eps: float = 1e-6
) -> tuple[Tensor, Tensor]:
    r"""Normalise and modulate every token, and quantise it: what 8-bit layers after it read.

    .. math:: (v, s) = \mathrm{quantize\_rows}(\mathrm{layer\_norm\_modulate}(x, t, s))

    Args:
        x: [B, L, M], any floating dtype; any strides.
        shift: [B, M], any floating dtype.
        scale: [B, M], any floating dtype.
        format: "int8" or "fp8" (e4m3).
        eps: added to the (biased) variance.

    Returns:
        Values [B, L, M], int8 or float8_e4m3fn, and scales [B, L], fp32; both contiguous.

    Numerics:
        fp32 from x to the rounding of the values; nothing in between is rounded to the dtype of x.
        Values may differ between backends by one step of the format. Deterministic.

    Raises:
        TypeError: an argument is not a floating-point tensor.
        ValueError: shapes, eps or devices do not fit, or the format is unknown.
        NotImplementedError: a gradient is asked for.

    Source: `layer_norm_modulate`, `quantize_rows`.
    """
    return cast("tuple[Tensor, Tensor]", FORWARD(*_prepare(x, shift, scale, format, eps)))


def _prepare(
    x: Tensor, shift: Tensor, scale: Tensor, format: str = "int8", eps: float = 1e-6
) -> tuple[Any, ...]:
    check(_NAME, x, shift, scale, eps)
    check_format(_NAME, format)
    return x, shift, scale, format, float(eps)


def _fake(
    x: Tensor, shift: Tensor, scale: Tensor, format: str, eps: float
) -> tuple[Tensor, Tensor]:
    values = x.new_empty(x.shape, dtype=FORMATS[format])
    return values, x.new_empty(x.shape[:-1], dtype=torch.float32)


def _backward(ctx: Any, *grads: Tensor) -> None:
    raise NotImplementedError(
        f"{_NAME}: 8-bit numbers have no gradient; train with layer_norm_modulate"
    )


FORWARD = Op(
    name=_NAME,
    schema="(Tensor x, Tensor shift, Tensor scale, str format, float eps) -> (Tensor, Tensor)",
    reference=reference.forward,
    fake=_fake,
    backends=[
        triton_backend(__package__, "forward", launch.why_not),
        Backend("cpu", "cpu", _cpu.forward, _cpu.why_not, _cpu.VERIFIED),
        Backend("torch", "any", _torch.forward, _torch.why_not, _torch.VERIFIED),
    ],
    prepare=_prepare,
    backward=_backward,
)
