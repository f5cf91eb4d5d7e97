"""causal_conv3d through torch's own convolutions (oneDNN, cuDNN), in the dtype of x."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..contract import layout_of
from .reference import padding, repeats

VERIFIED = "CPU: x86-64 AVX-512 and AMX, torch 2.13, 2026-11; never on a GPU"

aten = torch.ops.aten


def why_not(
    x: Tensor, weight: Tensor, bias: Tensor | None, stride: Sequence[int], pad_mode: str
) -> str | None:
    """Empty tensors are left to the reference, and so is what oneDNN computes wrongly."""
    if x.numel() == 0:
        return "the tensor is empty"
    # Seen with torch 2.13: values of 1e20. Output width 2 and more, and stride 1, are right.
    if x.dtype is torch.bfloat16 and stride[2] > 1 and not x.is_cuda:
        left, right = padding(weight.shape[2:], pad_mode)[2]
        if x.shape[4] + left + right - weight.shape[4] < stride[2]:
            return "oneDNN returns garbage for strided bf16 convolutions to a single column"
    return None


def backward_why_not(grad: Tensor, x: Tensor, *_: Any) -> str | None:
    """Empty tensors are left to the reference."""
    return "a tensor is empty" if grad.numel() == 0 or x.numel() == 0 else None


def forward(
    x: Tensor, weight: Tensor, bias: Tensor | None, stride: Sequence[int], pad_mode: str
) -> Tensor:
    """Return the convolution."""
    layout = layout_of(x)
    x = x.contiguous(memory_format=layout)
    if is_pointwise(weight, stride) and layout is torch.contiguous_format:
        return matmul(x, weight, bias)
    if x.shape[2] == 1 and _sums_taps(weight, pad_mode):
        y = F.conv2d(
            *_padded_image(x[:, :, 0], weight, pad_mode), bias, tuple(stride[1:])
        ).unsqueeze(2)
    else:
        y = F.conv3d(_padded(x, weight, pad_mode), weight, bias, tuple(stride))
    return y.contiguous(memory_format=layout)


def backward(
    grad: Tensor,
    x: Tensor,
    weight: Tensor,
    stride: Sequence[int],
    pad_mode: str,
    needs: Sequence[bool],
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of x, weight and bias; an empty tensor for one that is not needed."""
    layout = layout_of(x)
    padded = _padded(x.contiguous(memory_format=layout), weight, pad_mode)
    grad = grad.contiguous(memory_format=layout)
    dpadded, dweight, dbias = gradients(grad, padded, weight, stride, needs)
    return (
        folded(dpadded, x, weight, pad_mode) if needs[0] else x.new_empty(0),
        dweight.contiguous() if needs[1] else x.new_empty(0),
        dbias if needs[2] else x.new_empty(0),
    )


def _is_unreliable(weight: Tensor) -> bool:
    # oneDNN's half-precision weight gradient of a 3-D convolution on AMX (torch 2.13) returned
    # garbage, and sometimes never returned: 32 -> 32 channels, 3x3x3, on 5 frames of 64x64.
    half = weight.dtype in (torch.bfloat16, torch.float16)
    return half and weight.device.type == "cpu" and weight.shape[2] > 1


def gradients(
    grad: Tensor,
    x: Tensor,
    weight: Tensor,
    stride: Sequence[int],
    needs: Sequence[bool],
    zeros: Sequence[int] = (0, 0, 0),
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of the input, the weight and the bias of a convolution between zeros."""
    bias_sizes = [weight.shape[0]] if needs[2] else None
    geometry = (list(stride), list(zeros), [1, 1, 1], False, [0, 0, 0], 1)
    if not needs[1] or not _is_unreliable(weight):
        found: tuple[Tensor, Tensor, Tensor] = aten.convolution_backward(
            grad, x, weight, bias_sizes, *geometry, list(needs)
        )
        return found
    dx, _, dbias = aten.convolution_backward(
        grad, x, weight, bias_sizes, *geometry, [needs[0], False, needs[2]]
    )
    wide = (grad.float(), x.float(), weight.float())
    dweight = aten.convolution_backward(*wide, None, *geometry, [False, True, False])[1]
    return dx, dweight.to(weight.dtype), dbias


def is_pointwise(weight: Tensor, stride: Sequence[int]) -> bool:
    """Whether a convolution is one matrix product."""
    return weight.shape[2:].numel() == 1 and all(step == 1 for step in stride)


def matmul(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """A pointwise convolution as matrix products."""
    batch, channels = x.shape[:2]
    matrix = weight.view(1, -1, channels).expand(batch, -1, -1)
    if bias is None:
        y = torch.bmm(matrix, x.flatten(2))
    else:
        y = torch.baddbmm(bias[:, None], matrix, x.flatten(2))
    return y.view(batch, -1, *x.shape[2:])


def _sums_taps(weight: Tensor, pad_mode: str) -> bool:
    # On a single frame every tap in time meets that frame (or zeros): one 2-D convolution with the
    # sum of the taps. A sum rounded to half precision would not be the same convolution.
    return (
        weight.shape[2] == 1
        or pad_mode == "zeros"
        or (repeats(pad_mode) and weight.dtype in (torch.float32, torch.float64))
    )


def _padded_image(image: Tensor, weight: Tensor, pad_mode: str) -> tuple[Tensor, Tensor]:
    taps = weight.sum(2) if repeats(pad_mode) else weight[:, :, -1]
    _, (top, bottom), (left, right) = padding(weight.shape[2:], pad_mode)
    if top == left == 0:
        return image, taps
    mode = "replicate" if repeats(pad_mode) else "constant"
    return F.pad(image, (left, right, top, bottom), mode), taps


def _padded(x: Tensor, weight: Tensor, pad_mode: str) -> Tensor:
    (front, _), (top, bottom), (left, right) = padding(weight.shape[2:], pad_mode)
    if front == top == left == 0:
        return x
    mode = "replicate" if repeats(pad_mode) else "constant"
    return F.pad(x, (left, right, top, bottom, front, 0), mode)


def folded(dpadded: Tensor, x: Tensor, weight: Tensor, pad_mode: str) -> Tensor:
    """Sum what was repeated into its border, in place: several times faster than torch's own."""
    for axis, (front, behind) in enumerate(padding(weight.shape[2:], pad_mode), start=2):
        size = x.shape[axis]
        if repeats(pad_mode) and front:
            dpadded.select(axis, front).copy_(dpadded.narrow(axis, 0, front + 1).sum(axis))
        if repeats(pad_mode) and behind:
            last = front + size - 1
            dpadded.select(axis, last).copy_(dpadded.narrow(axis, last, behind + 1).sum(axis))
        dpadded = dpadded.narrow(axis, front, size)
    return dpadded.contiguous(memory_format=layout_of(x))
