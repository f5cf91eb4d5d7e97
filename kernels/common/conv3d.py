"""The C++ convolution of csrc/cpu/conv3d as four ops use it: layouts, and weights packed once.

The kernel reads and writes channels-last. Any other layout is converted here, on both sides.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from .. import native
from ..contract import layout_of
from ..moments import fake_moments

if TYPE_CHECKING:
    from opensora_fast import _C

VERIFIED: Final = "CPU: x86-64 scalar, AVX2, AVX-512, AVX512-BF16 and AMX, 2026-11"
PADDING_CODES: Final = {
    "replicate": 0,
    "zeros": 1,
    "valid": 2,
    "centered": 3,
    "centered rows": 4,
    "replicate_rows": 5,
}
MAX_TAPS: Final = 128

# Elements of a weight that tell whether it was changed behind autograd's back (through .data).
_PROBES: Final = 64


class Affine(NamedTuple):
    """`silu((x - mean) * scale + shift)`, fp32 [B, C] each, applied on the way in."""

    mean: Tensor
    scale: Tensor
    shift: Tensor


@dataclass(frozen=True, slots=True)
class Packed:
    """Weights in the kernel's order, and what they were when they were packed."""

    state: tuple[int, int]
    probes: Tensor
    values: Tensor


_Key = tuple[object, ...]
_cache: WeakTensorKeyDictionary = WeakTensorKeyDictionary()


def why_not(x: Tensor, weight: Tensor) -> str | None:
    """Say why the kernel cannot serve these tensors, or return None."""
    if x.dtype not in native.CPU_DTYPES:
        return native.not_a_cpu_dtype("x", x)
    if weight.dtype != x.dtype:
        return f"weight is {weight.dtype}, x is {x.dtype}"
    if x.numel() == 0:
        return "the tensor is empty"
    if weight.shape[2:].numel() > MAX_TAPS:
        return f"the kernel has {weight.shape[2:].numel()} taps, at most {MAX_TAPS} are served"
    return native.why_no_cpu()


def convolve(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    out_size: Sequence[int],
    *,
    stride: Sequence[int] = (1, 1, 1),
    scale: Sequence[int] = (1, 1, 1),
    pad_mode: str = "replicate",
    affine: Affine | None = None,
    silu: bool = False,
    residual: Tensor | None = None,
    shortcut: bool = False,
    gather: bool = False,
) -> tuple[Tensor, Tensor]:
    """Return `conv(upsampled(silu((x - mean) * scale + shift))) + bias + residual + shortcut(x)`.

    Args:
        x: [B, C, T, H, W], fp32 or bf16; converted to channels-last if it is not.
        weight: [O, C, kT, kH, kW], dtype of `x`; packed at first sight and kept while it lives
            unchanged.
        bias: [O] or None.
        out_size: T', H', W'.
        stride: of the convolution.
        scale: of the nearest upsampling before it, whose first frame stays single unless the
            padding is centered.
        pad_mode: "replicate", "zeros" or "valid", all of time's in front; "centered": zeros on both
            sides; "replicate_rows" and "centered rows": likewise, but nothing above and below.
        affine: of the activation before the convolution; None: x is not normalised.
        silu: activate x itself, where there is no `affine`.
        residual: [B, O, T', H', W'], added to the result.
        shortcut: add that of `kernels/conv3d` to the result; "centered" only.
        gather: mean and variance of the result's channels while it is written.

    Returns:
        [B, O, T', H', W'], dtype of `x`; channels-last-3d where `x` is, else contiguous. And the
        moments [B, 2, O] in fp32, or no element.
    """
    isa = _isa()
    key = (tuple(stride), tuple(scale), pad_mode, shortcut, isa)
    conv = _conv(tuple(weight.shape), native.DTYPE_CODES[x.dtype], *key)
    # Whatever is around an image, its weights lie alike.
    packed = _packed(conv, weight, (conv.algorithm, tuple(scale), isa))
    dense = channels_last(x)
    shape = (x.shape[0], weight.shape[0], *out_size)
    y = x.new_empty((shape[0], *shape[2:], shape[1]))
    bias = None if bias is None else bias.to(torch.float32).contiguous()
    moments = fake_moments(x, y.movedim(-1, 1), gather)
    added = None if residual is None else channels_last(residual.to(x.dtype))
    conv.run(
        x=dense.data_ptr(),
        y=y.data_ptr(),
        packed=packed.data_ptr(),
        bias=_address(bias),
        residual=_address(added),
        mean=_address(affine and affine.mean),
        scale=_address(affine and affine.scale),
        shift=_address(affine and affine.shift),
        silu=silu,
        moments=_address(moments if gather else None),
        batch=x.shape[0],
        size=(x.shape[2], x.shape[3], x.shape[4]),
        out_size=(shape[2], shape[3], shape[4]),
    )
    return y.permute(0, 4, 1, 2, 3).contiguous(memory_format=layout_of(x)), moments


def packed_bytes(weight: Tensor) -> int:
    """Bytes that the packed forms of a weight take now."""
    return sum(form.values.numel() for form in _cache.get(weight, {}).values())


def state_of(weight: Tensor) -> tuple[int, int]:
    """What changes when a weight is replaced, or written to where autograd sees it."""
    return weight.data_ptr(), 0 if weight.is_inference() else weight._version


def _isa() -> str:
    from opensora_fast import _C

    return _C.cpu_isa()


@functools.lru_cache(maxsize=1024)
def _conv(
    weight_shape: tuple[int, ...],
    dtype: int,
    stride: tuple[int, int, int],
    scale: tuple[int, int, int],
    pad_mode: str,
    shortcut: bool,
    isa: str,
) -> _C.Conv3d:
    """The convolution for the instruction set in force, `isa`: its name is part of the key."""
    from opensora_fast import _C

    out_channels, channels, *kernel = weight_shape
    depth, height, width = kernel
    return _C.Conv3d(
        channels=channels,
        out_channels=out_channels,
        kernel=(depth, height, width),
        stride=stride,
        scale=scale,
        padding=PADDING_CODES[pad_mode],
        dtype=dtype,
        shortcut=shortcut,
    )


def _packed(conv: _C.Conv3d, weight: Tensor, key: _Key) -> Tensor:
    forms: dict[_Key, Packed] = _cache.setdefault(weight, {})
    state = state_of(weight)
    probes = _probes_of(weight.detach())
    form = forms.get(key)
    if form is None or form.state != state or not torch.equal(form.probes, probes):
        values = torch.empty(conv.packed_bytes, dtype=torch.uint8)
        wide = weight.detach().to(torch.float32).contiguous()
        conv.pack(weight=wide.data_ptr(), packed=values.data_ptr())
        form = Packed(state, probes.clone(), values)
        forms[key] = form
    return form.values


def _probes_of(weight: Tensor) -> Tensor:
    """Some elements of a weight; whatever the order of its axes in memory, without a copy."""
    in_memory = weight.permute(sorted(range(weight.dim()), key=weight.stride, reverse=True))
    return in_memory.reshape(-1)[:: max(1, weight.numel() // _PROBES)]


def channels_last(x: Tensor) -> Tensor:
    """`x` with its channels innermost; no copy if they are."""
    return x.permute(0, 2, 3, 4, 1).contiguous()


def _address(x: Tensor | None) -> int:
    return 0 if x is None else x.data_ptr()
