"""quantize_rows: every row as 8-bit numbers and one scale."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor

from .. import contract
from ..common.availability import triton_backend
from ..registry import Op
from . import launch, reference
from .formats import FORMATS, check_format

_NAME = "quantize_rows"


def quantize_rows(x: Tensor, format: str = "int8") -> tuple[Tensor, Tensor]:
    r"""Round every row to 8-bit numbers, scaled by its largest.

    .. math:: s_r = \max_k |x_{rk}| / Q, \quad v_{rk} = \mathrm{round}(x_{rk} / s_r)

    Q is 127 for int8 and 448 for fp8 (e4m3).

    Args:
        x: [..., K], any floating dtype; any strides.
        format: "int8" or "fp8".

    Returns:
        Values [..., K], int8 or float8_e4m3fn, and scales [...], fp32; both contiguous.

    Numerics:
        x is taken in fp32; the product with Q / max is rounded to fp32, then to the format, to
        nearest even. Every backend returns the same bits. Rows whose numbers are all below 2^-96
        become zeros. A row with NaN or an infinity gets a scale that is NaN or infinite.

    Raises:
        TypeError: x is not a floating-point tensor.
        ValueError: x has no axis, K is 0, or the format is unknown.
        NotImplementedError: a gradient is asked for.
    """
    return cast("tuple[Tensor, Tensor]", FORWARD(*_prepare(x, format)))


def _prepare(x: Tensor, format: str = "int8") -> tuple[Tensor, str]:
    contract.check_tensors(_NAME, x=x)
    if x.dim() < 1 or x.shape[-1] < 1:
        raise ValueError(
            f"{_NAME}: x must be [..., K] with K of at least 1, got shape {list(x.shape)}"
        )
    check_format(_NAME, format)
    return x, format


def _fake(x: Tensor, format: str) -> tuple[Tensor, Tensor]:
    values = x.new_empty(x.shape, dtype=FORMATS[format])
    return values, x.new_empty(x.shape[:-1], dtype=torch.float32)


def _backward(ctx: Any, *grads: Tensor) -> None:
    raise NotImplementedError(
        f"{_NAME}: 8-bit numbers have no gradient; train with full-precision layers"
    )


FORWARD = Op(
    name=_NAME,
    schema="(Tensor x, str format) -> (Tensor, Tensor)",
    reference=reference.forward,
    fake=_fake,
    backends=[triton_backend(__package__, "forward", launch.why_not)],
    prepare=_prepare,
    backward=_backward,
)
