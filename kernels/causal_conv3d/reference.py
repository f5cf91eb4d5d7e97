"""The definition of causal_conv3d: pad, then sum over the taps of the kernel; its gradients."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import EllipsisType

import torch
from torch import Tensor

from ..contract import layout_of, wide


def forward(
    x: Tensor, weight: Tensor, bias: Tensor | None, stride: Sequence[int], pad_mode: str
) -> Tensor:
    """Return y[b,o,t,h,w] = bias[o] + sum over c, tap of weight[o,c,tap] * padded x at the tap."""
    padded = pad(x.to(wide(x.dtype)), weight.shape[2:], pad_mode)
    taps = weight.to(padded.dtype)
    shape = output_shape(x.shape, weight.shape, stride, pad_mode)
    y = padded.new_zeros(shape)
    for tap, window in _windows(padded, weight.shape[2:], shape[2:], stride):
        y += torch.einsum("oc,bcthw->bothw", taps[tap], window)
    if bias is not None:
        y += bias.to(y.dtype).view(-1, 1, 1, 1)
    return y.to(x.dtype).contiguous(memory_format=layout_of(x))


def backward(
    grad: Tensor,
    x: Tensor,
    weight: Tensor,
    stride: Sequence[int],
    pad_mode: str,
    needs: Sequence[bool],
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of x, weight and bias; an empty tensor for one that is not needed."""
    padded = pad(x.to(wide(x.dtype)), weight.shape[2:], pad_mode)
    dy, taps = grad.to(padded.dtype), weight.to(padded.dtype)
    dpadded, dweight = torch.zeros_like(padded), torch.zeros_like(taps)
    windows = zip(
        _windows(padded, weight.shape[2:], grad.shape[2:], stride),
        _windows(dpadded, weight.shape[2:], grad.shape[2:], stride),
        strict=True,
    )
    for (tap, window), (_, dwindow) in windows:
        if needs[0]:
            dwindow += torch.einsum("oc,bothw->bcthw", taps[tap], dy)
        if needs[1]:
            dweight[tap] = torch.einsum("bothw,bcthw->oc", dy, window)
    dx = fold(dpadded, x.shape, weight.shape[2:], pad_mode).to(x.dtype)
    return (
        dx.contiguous(memory_format=layout_of(x)) if needs[0] else x.new_empty(0),
        dweight.to(weight.dtype).contiguous() if needs[1] else x.new_empty(0),
        dy.sum((0, 2, 3, 4)).to(weight.dtype) if needs[2] else x.new_empty(0),
    )


def padding(kernel: Sequence[int], pad_mode: str) -> tuple[tuple[int, int], ...]:
    """Elements added in front and behind, per axis T, H, W."""
    if pad_mode == "valid":
        return ((0, 0),) * 3
    rows = 0 if pad_mode == "replicate_rows" else kernel[1] // 2
    return (kernel[0] - 1, 0), (rows, rows), (kernel[2] // 2, kernel[2] // 2)


def repeats(pad_mode: str) -> bool:
    """Whether what is added is the border's last value."""
    return pad_mode in ("replicate", "replicate_rows")


def output_shape(
    x_shape: Sequence[int], weight_shape: Sequence[int], stride: Sequence[int], pad_mode: str
) -> tuple[int, ...]:
    """Shape [B, O, T', H', W'] of the output."""
    kernel = weight_shape[2:]
    sizes = zip(x_shape[2:], padding(kernel, pad_mode), kernel, stride, strict=True)
    return (
        x_shape[0],
        weight_shape[0],
        *((size + front + behind - k) // s + 1 for size, (front, behind), k, s in sizes),
    )


def pad(x: Tensor, kernel: Sequence[int], pad_mode: str) -> Tensor:
    """Pad x by repeating its border or with zeros."""
    for axis, (front, behind) in enumerate(padding(kernel, pad_mode), start=2):
        if front == behind == 0:
            continue
        size = x.shape[axis]
        index = torch.arange(-front, size + behind, device=x.device)
        inside = (index >= 0) & (index < size)
        x = x.index_select(axis, index.clamp(0, size - 1))
        if pad_mode == "zeros":
            x = x * inside.view((-1,) + (1,) * (4 - axis))
    return x


def fold(dpadded: Tensor, shape: Sequence[int], kernel: Sequence[int], pad_mode: str) -> Tensor:
    """Return the gradient of `pad`: what was repeated is summed, what was zero is dropped."""
    for axis, (front, behind) in enumerate(padding(kernel, pad_mode), start=2):
        size = shape[axis]
        inner = dpadded.narrow(axis, front, size)
        if repeats(pad_mode):
            inner = inner.clone()
            inner.narrow(axis, 0, 1).add_(dpadded.narrow(axis, 0, front).sum(axis, keepdim=True))
            last = dpadded.narrow(axis, front + size, behind).sum(axis, keepdim=True)
            inner.narrow(axis, size - 1, 1).add_(last)
        dpadded = inner
    return dpadded


def _windows(
    padded: Tensor, kernel: Sequence[int], sizes: Sequence[int], stride: Sequence[int]
) -> Iterator[tuple[tuple[EllipsisType, int, int, int], Tensor]]:
    """Yield each tap's place in the weight with the view of `padded` that it meets."""
    for t in range(kernel[0]):
        for h in range(kernel[1]):
            for w in range(kernel[2]):
                window = padded
                for axis, (start, size, step) in enumerate(
                    zip((t, h, w), sizes, stride, strict=True), start=2
                ):
                    stop = start + step * (size - 1) + 1
                    window = window[(slice(None),) * axis + (slice(start, stop, step),)]
                yield (..., t, h, w), window
