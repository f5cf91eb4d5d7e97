"""quantized_linear: a linear layer whose products are of 8-bit numbers."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor

from .. import contract
from ..common.availability import triton_backend
from ..quantize_rows import quantize_rows
from ..quantize_rows.formats import FORMATS, format_of
from ..registry import Backend, Op
from . import _torch, launch, reference

_NAME = "quantized_linear"


def quantize_weight(weight: Tensor, format: str = "int8") -> tuple[Tensor, Tensor]:
    r"""Quantise a layer's weight, each output channel with a scale of its own.

    .. math:: s_n = \max_k |w_{nk}| / Q, \quad v_{nk} = \mathrm{round}(w_{nk} / s_n)

    Args:
        weight: [N, K], any floating dtype.
        format: "int8" or "fp8" (e4m3).

    Returns:
        Values [N, K], int8 or float8_e4m3fn, and scales [N], fp32.

    Numerics:
        As `quantize_rows`.

    Raises:
        TypeError: weight is not a floating-point tensor.
        ValueError: weight is not a matrix, K is 0, or the format is unknown.
    """
    if isinstance(weight, Tensor) and weight.dim() != 2:
        raise ValueError(f"quantize_weight: weight must be [N, K], got shape {list(weight.shape)}")
    with torch.no_grad():
        return quantize_rows(weight, format)


def quantized_linear(
    x: Tensor,
    weight: Tensor,
    weight_scales: Tensor,
    bias: Tensor | None = None,
    x_scales: Tensor | None = None,
    dtype: torch.dtype | None = None,
) -> Tensor:
    r"""Apply a linear layer to tokens quantised one by one, with a weight quantised by channel.

    .. math:: y_{ln} = s^x_l s^w_n \sum_k v^x_{lk} v^w_{nk} + b_n

    Args:
        x: [..., K]: any floating dtype, to be quantised here; or, with `x_scales`, values of the
            weight's format, as `quantize_rows` and `layer_norm_modulate_quantized` return them.
        weight: [N, K], int8 or float8_e4m3fn: see `quantize_weight`.
        weight_scales: [N], fp32.
        bias: [N], any floating dtype.
        x_scales: [...], fp32: the scales of quantised x.
        dtype: of the result; with `x_scales` only, and needed there.

    Returns:
        [..., N], dtype of `x` or `dtype`, contiguous.

    Numerics:
        int8 products are summed exactly, fp8 products in fp32; scales and bias are applied in fp32,
        rounded once. Deterministic. What quantisation itself costs is measured in docs/numerics.md.

    Raises:
        TypeError: a dtype is not accepted.
        ValueError: shapes or devices do not fit, or of `x_scales` and `dtype` one is missing.
        NotImplementedError: a gradient is asked for.
    """
    return cast(Tensor, FORWARD(*_prepare(x, weight, weight_scales, bias, x_scales, dtype)))


def _prepare(
    x: Tensor,
    weight: Tensor,
    weight_scales: Tensor,
    bias: Tensor | None = None,
    x_scales: Tensor | None = None,
    dtype: torch.dtype | None = None,
) -> tuple[Any, ...]:
    contract.check_tensors(_NAME, weight_scales=weight_scales, bias=bias, x_scales=x_scales)
    for name, tensor in (("x", x), ("weight", weight)):
        if not isinstance(tensor, Tensor):
            raise TypeError(f"{_NAME}: {name} must be a tensor, got {type(tensor).__name__}")
        if tensor.device != weight_scales.device:
            raise ValueError(
                f"{_NAME}: {name} is on {tensor.device}, "
                f"the scales of the weight are on {weight_scales.device}"
            )
    format_of(_NAME, "weight", weight.dtype)
    if weight.dim() != 2 or x.dim() < 1 or x.shape[-1] != weight.shape[1] or x.shape[-1] < 1:
        raise ValueError(
            f"{_NAME}: x must be [..., K] and weight [N, K], "
            f"got shapes {list(x.shape)} and {list(weight.shape)}"
        )
    contract.check_shape(_NAME, "weight_scales", weight_scales, (weight.shape[0],))
    if bias is not None:
        contract.check_shape(_NAME, "bias", bias, (weight.shape[0],))
    if (x_scales is None) != (dtype is None):
        raise ValueError(f"{_NAME}: x_scales and dtype belong together: give both or neither")
    if x_scales is not None and dtype is not None:
        contract.check_shape(_NAME, "x_scales", x_scales, tuple(x.shape[:-1]))
        if x.dtype is not weight.dtype:
            raise TypeError(f"{_NAME}: x with scales is {x.dtype}, weight is {weight.dtype}")
        if not dtype.is_floating_point or dtype.itemsize < 2:
            raise TypeError(f"{_NAME}: dtype must be floating-point, got {dtype}")
    elif not x.is_floating_point() or x.dtype in FORMATS.values():
        raise TypeError(f"{_NAME}: x without scales must be floating-point, got {x.dtype}")
    return x, x_scales, weight, weight_scales, bias, dtype


def _fake(
    x: Tensor,
    x_scales: Tensor | None,
    weight: Tensor,
    weight_scales: Tensor,
    bias: Tensor | None,
    dtype: torch.dtype | None,
) -> Tensor:
    return x.new_empty((*x.shape[:-1], weight.shape[0]), dtype=dtype or x.dtype)


def _backward(ctx: Any, *grads: Tensor) -> None:
    raise NotImplementedError(
        f"{_NAME}: 8-bit layers serve inference and have no gradient; "
        "train with full-precision layers"
    )


FORWARD = Op(
    name=_NAME,
    schema="(Tensor x, Tensor? x_scales, Tensor weight, Tensor weight_scales, Tensor? bias,"
    " ScalarType? dtype) -> Tensor",
    reference=reference.forward,
    fake=_fake,
    backends=[
        triton_backend(__package__, "forward", launch.why_not),
        Backend("torch", "any", _torch.forward, _torch.why_not, _torch.VERIFIED),
    ],
    prepare=_prepare,
    backward=_backward,
)
