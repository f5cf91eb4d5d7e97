"""Triton kernel that packs the weight of a convolution, and the packed weights that are kept.

    packed[tap * packed_c + c, o] = w[o, c, tap], zero up to whole blocks.

Layout: w [O, C, taps], any strides; packed [rows, columns] dense, a row per tap and input channel,
so that a block of a matrix product's inner index is dense rows.
Parallel: one program per tile of 64 x 64.
Bytes: reads w once and writes packed once; where the packed weight is kept from an earlier call,
reads one in 64 elements of both.
"""

from __future__ import annotations

from typing import NamedTuple

import triton
import triton.language as tl
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from ..common.conv3d import state_of
from ..common.launch import Launch, cdiv, strides
from .launch import Config


@triton.jit
def pack_kernel(
    w_ptr, packed_ptr, O, C, num_taps, num_rows, packed_c, packed_o,
    w_stride_o, w_stride_c, w_stride_k,
    STALE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """packed[tap * packed_c + c, o] = w[o, c, tap], zero elsewhere.

    A weight can be written behind autograd's back (through .data), and asking the device would
    stall it. So every program compares an element of each row of its tile, along the diagonal, with
    what it packed, and packs again if they differ; unless STALE says that it must anyway.
    """
    offs_r = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    offs_o = tl.program_id(1).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    tap = offs_r // packed_c
    channel = offs_r % packed_c
    at_r = channel * w_stride_c + tap * w_stride_k
    mask_r = (tap < num_taps) & (channel < C)
    changed = True
    if not STALE:
        start_o = tl.program_id(1).to(tl.int64) * BLOCK
        probe_o = start_o + tl.arange(0, BLOCK) % tl.maximum(tl.minimum(O - start_o, BLOCK), 1)
        mask = mask_r & (probe_o < O)
        b_now = tl.load(w_ptr + at_r + probe_o * w_stride_o, mask=mask, other=0.0)
        b_kept = tl.load(packed_ptr + offs_r * packed_o + probe_o, mask=mask, other=0.0)
        changed = tl.max((b_now != b_kept).to(tl.int32), axis=0) != 0
    if changed:
        inside = mask_r[:, None] & (offs_o < O)[None, :]
        b_w = tl.load(w_ptr + at_r[:, None] + offs_o[None, :] * w_stride_o, mask=inside, other=0.0)
        tile = (offs_r < num_rows)[:, None] & (offs_o < packed_o)[None, :]
        tl.store(packed_ptr + offs_r[:, None] * packed_o + offs_o[None, :], b_w, mask=tile)


class _Packed(NamedTuple):
    """A packed weight, and what the weight was when it was packed."""

    state: tuple[int, ...]
    values: Tensor


_packed_weights: WeakTensorKeyDictionary = WeakTensorKeyDictionary()


def packed_weight(weight: Tensor, config: Config) -> Tensor:
    """The weight as a launch reads it; kept while the weight lives, packed again if it changed."""
    out_channels, channels = weight.shape[:2]
    rows, columns, per_tap = config.packed_shape(channels, out_channels, weight.shape[2:].numel())
    forms: dict[tuple[int, int, int], _Packed] = _packed_weights.setdefault(weight, {})
    form = forms.get((rows, columns, per_tap))
    fits = form is not None and form.values.device == weight.device
    if not fits or form.values.dtype != weight.dtype:
        form = _Packed((), weight.new_empty((rows, columns)))
    now = _Packed(state_of(weight), form.values)
    taps = weight.detach().flatten(2)
    plan_pack(taps, now.values, per_tap, stale=form.state != now.state).run()
    forms[(rows, columns, per_tap)] = now
    return now.values


def plan_pack(taps: Tensor, packed: Tensor, per_tap: int, *, stale: bool) -> Launch:
    """Plan the packing of taps [O, C, number], any strides; only of what changed unless stale."""
    out_channels, channels, num_taps = taps.shape
    block = 64
    arguments = {
        "w_ptr": taps, "packed_ptr": packed, "O": out_channels, "C": channels,
        "num_taps": num_taps, "num_rows": packed.shape[0],
        "packed_c": per_tap, "packed_o": packed.shape[1],
    }  # fmt: skip
    return Launch(
        kernel=pack_kernel,
        grid=(cdiv(packed.shape[0], block), cdiv(packed.shape[1], block)),
        arguments=arguments | strides("w", taps, "ock"),
        constants={"STALE": stale, "BLOCK": block},
        num_warps=8,
    )
