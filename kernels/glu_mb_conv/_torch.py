"""glu_mb_conv through torch's products and convolutions, a chunk of channels at a time.

A chunk is m value channels with their m gate channels: their product with x, SiLU, the depthwise
convolution, the gate, and their part of the last product, which is added up in fp32. Nothing is
ever as large as the 2·M channels of the whole. Positions lie as rows: [tokens, channels].

Products run in the dtype of x; between them a chunk is computed in fp32, because every rounding
there would be one more than the original has.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from ..common.torch_conv3d import LIBRARY, Depthwise
from ..contract import layout_of, wide

VERIFIED = "CPU: x86-64 AVX-512 and AMX, torch 2.13, 2026-11; never on a GPU"

# Elements of a chunk's 2·m channels; a chunk has at least a few cache lines of every position.
_CHUNK_ELEMENTS = 1 << 24
_LEAST_CHANNELS = 32

aten = torch.ops.aten


def why_not(x: Tensor, *_: Tensor) -> str | None:
    """Empty tensors are left to the reference."""
    return "the tensor is empty" if x.numel() == 0 else None


def backward_why_not(grad: Tensor, x: Tensor, *_: Tensor) -> str | None:
    """Empty tensors are left to the reference."""
    return why_not(x)


def forward(
    x: Tensor,
    inverted_weight: Tensor,
    inverted_bias: Tensor,
    depth_weight: Tensor,
    depth_bias: Tensor,
    point_weight: Tensor,
) -> Tensor:
    """Return y."""
    rows, dtype = _rows(x), wide(x.dtype)
    total = rows.new_zeros((rows.shape[0], point_weight.shape[0]), dtype=dtype)
    for channels, both in _chunks(x, point_weight.shape[1]):
        hidden = _hidden(rows, inverted_weight[both], inverted_bias[both])
        value, gate = _gated(LIBRARY, aten.silu_(hidden), x, depth_weight[both], depth_bias[both])
        product = value.mul_(F.silu(gate)).to(x.dtype)
        total += product @ point_weight[:, channels].flatten(1).t()
    return _video(total.to(x.dtype), x).contiguous(memory_format=layout_of(x))


def backward(*args: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return the gradients of x and of the five parameters; every chunk is computed again."""
    return backward_by(LIBRARY, *args)


def backward_by(
    how: Depthwise,
    grad: Tensor,
    x: Tensor,
    inverted_weight: Tensor,
    inverted_bias: Tensor,
    depth_weight: Tensor,
    depth_bias: Tensor,
    point_weight: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return what `backward` does, with depthwise convolutions of another kind."""
    rows, dy, dtype = _rows(x), _rows(grad), wide(x.dtype)
    dx = torch.zeros_like(rows, dtype=dtype)
    parameters = (inverted_weight, inverted_bias, depth_weight, depth_bias, point_weight)
    dinverted, dinverted_bias, ddepth, ddepth_bias, dpoint = (
        torch.empty_like(parameter, memory_format=torch.contiguous_format)
        for parameter in parameters
    )
    for channels, both in _chunks(x, point_weight.shape[1]):
        hidden = _hidden(rows, inverted_weight[both], inverted_bias[both])
        active = F.silu(hidden)
        value, gate = _gated(how, active, x, depth_weight[both], depth_bias[both])
        open_gate = F.silu(gate)
        product = (value * open_gate).to(x.dtype)
        dpoint[:, channels] = (dy.t() @ product).view_as(dpoint[:, channels])
        dproduct = (dy @ point_weight[:, channels].flatten(1)).to(dtype)
        dvalue, dgate = dproduct * open_gate, aten.silu_backward(dproduct * value, gate)
        dgated = torch.cat([dvalue, dgate], dim=1)
        ddepth_bias[both] = dgated.sum(0).to(x.dtype)
        dactive, dtaps = how.gradients(
            _video(dgated, x), _video(active, x), depth_weight[both].to(dtype)
        )
        ddepth[both] = dtaps.to(x.dtype)
        dhidden = aten.silu_backward(_rows(dactive), hidden)
        dinverted_bias[both] = dhidden.sum(0).to(x.dtype)
        dhidden = dhidden.to(x.dtype)
        dinverted[both] = (dhidden.t() @ rows).view_as(dinverted[both])
        dx += dhidden @ inverted_weight[both].flatten(1)
    dx_video = _video(dx.to(x.dtype), x).contiguous(memory_format=layout_of(x))
    return dx_video, dinverted, dinverted_bias, ddepth, ddepth_bias, dpoint


def _chunks(x: Tensor, width: int) -> Iterator[tuple[slice, Tensor]]:
    """Cut M channels: the chunk in M, and its value and gate channels in 2·M."""
    tokens = x.numel() // x.shape[1]
    step = max(_CHUNK_ELEMENTS // (2 * tokens), _LEAST_CHANNELS)
    for start in range(0, width, step):
        chunk = torch.arange(start, min(start + step, width), device=x.device)
        yield slice(start, start + step), torch.cat([chunk, chunk + width])


def _rows(x: Tensor) -> Tensor:
    """[B·T·H·W, C]; a view of a channels-last video, a copy of another."""
    return x.permute(0, 2, 3, 4, 1).reshape(-1, x.shape[1])


def _video(rows: Tensor, x: Tensor) -> Tensor:
    """Rows as [B, channels, T, H, W], channels last."""
    return rows.view(x.shape[0], *x.shape[2:], -1).permute(0, 4, 1, 2, 3)


def _hidden(rows: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """The first product, before SiLU."""
    product = rows @ weight.flatten(1).t()
    return product.to(wide(rows.dtype)).add_(bias)


def _gated(
    how: Depthwise, active: Tensor, x: Tensor, weight: Tensor, bias: Tensor
) -> tuple[Tensor, Tensor]:
    """Value and gate of a chunk."""
    weight, bias = weight.to(active.dtype), bias.to(active.dtype)
    value, gate = _rows(how.convolve(_video(active, x), weight, bias)).chunk(2, dim=1)
    return value, gate
