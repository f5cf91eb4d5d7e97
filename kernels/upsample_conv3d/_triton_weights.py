"""Triton kernel that packs the weight of upsample_conv3d, and the packed weights that are kept.

    u[a, b, product, i, j, c, o] = +-sum of w[o, c, t, h, w] over the taps that one product takes

for the output's parity a in T and b in H, the products with x and its two differences along W, and
the input frame i and row j that they meet (see _triton for the identity): the order in which they
are consumed. Sums are taken in fp32 and rounded once; channels are zero up to whole blocks.

Layout: w [O, C, 3, 3, 3], any strides; u [slabs, padded C, padded O], dense.
Parallel: one program per (a, b, product, i, j) and tile of C x O.
Bytes: reads w about seven times (through L2) and writes u, 1.8 times its size; where u is kept from
an earlier call, reads one element in 32 of that.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch.utils.weak import WeakTensorKeyDictionary

from ..common.conv3d import state_of
from ..common.launch import Launch, cdiv, next_power_of_two, strides
from .launch import Config


@triton.jit
def taps_of(phase, i, DOUBLED: tl.constexpr):
    """First, and one behind the last, of the taps that are summed into tap i of a phase."""
    if DOUBLED:
        first = tl.where(i == 0, 0, phase + 1)
        end = tl.where(i == 0, phase + 1, 3)
    else:
        first = i
        end = i + 1
    return first, end


@triton.jit
def sum_taps(
    w_ptr, b_zero, mask, pid, stride_t, stride_h, stride_w, TAPS_T: tl.constexpr
):  # fmt: skip
    """The signed sum that slab ``pid`` of u holds, where w_ptr points; b_zero has its shape."""
    product = pid // (2 * TAPS_T) % 3
    first_t, end_t = taps_of(pid // (12 * TAPS_T), pid // 2 % TAPS_T, TAPS_T == 2)
    first_h, end_h = taps_of(pid // (6 * TAPS_T) % 2, pid % 2, True)
    first_w = tl.where(product == 2, 2, 0)
    end_w = tl.where(product == 1, 1, 3)
    b_u = b_zero
    for t in range(first_t, end_t):
        for h in range(first_h, end_h):
            for w in range(first_w, end_w):
                at = t * stride_t + h * stride_h + w * stride_w
                b_u += tl.load(w_ptr + at, mask=mask, other=0.0).to(tl.float32)
    return tl.where(product == 1, -b_u, b_u)


@triton.jit
def pack_kernel(
    w_ptr, u_ptr, C, O, w_stride_o, w_stride_c, w_stride_t, w_stride_h, w_stride_w,
    C_PADDED: tl.constexpr, O_PADDED: tl.constexpr, TAPS_T: tl.constexpr, STALE: tl.constexpr,
    BLOCK_C: tl.constexpr, BLOCK_O: tl.constexpr,
):  # fmt: skip
    """Write one tile of u.

    A weight can be written behind autograd's back (through .data), and asking the device would
    stall it. So every program compares an element of each row of its tile, along the diagonal, with
    what it packed, and packs again if they differ; unless STALE says that it must anyway.
    """
    pid = tl.program_id(0)
    offs_c = tl.program_id(1).to(tl.int64) * BLOCK_C + tl.arange(0, BLOCK_C)
    start_o = tl.program_id(2).to(tl.int64) * BLOCK_O
    offs_o = start_o + tl.arange(0, BLOCK_O)
    mask_c = offs_c < C
    at_c = offs_c * w_stride_c
    row_u = pid.to(tl.int64) * C_PADDED + offs_c
    changed = True
    if not STALE:
        # In 32 bits: a remainder in 64 would be a call.
        num_o = tl.minimum(O - tl.program_id(2) * BLOCK_O, BLOCK_O)
        probe_o = start_o + tl.arange(0, BLOCK_C) % tl.maximum(num_o, 1)
        mask_probe = mask_c & (probe_o < O)
        b_now = sum_taps(
            w_ptr + at_c + probe_o * w_stride_o, tl.zeros([BLOCK_C], dtype=tl.float32),
            mask_probe, pid, w_stride_t, w_stride_h, w_stride_w, TAPS_T,
        )  # fmt: skip
        b_kept = tl.load(u_ptr + row_u * O_PADDED + probe_o, mask=mask_probe, other=0.0)
        changed = tl.max((b_now.to(b_kept.dtype) != b_kept).to(tl.int32), axis=0) != 0
    if changed:
        mask_w = mask_c[:, None] & (offs_o < O)[None, :]
        b_u = sum_taps(
            w_ptr + at_c[:, None] + offs_o[None, :] * w_stride_o,
            tl.zeros([BLOCK_C, BLOCK_O], dtype=tl.float32), mask_w, pid,
            w_stride_t, w_stride_h, w_stride_w, TAPS_T,
        )  # fmt: skip
        mask_u = (offs_c < C_PADDED)[:, None] & (offs_o < O_PADDED)[None, :]
        at_u = row_u[:, None] * O_PADDED + offs_o[None, :]
        tl.store(u_ptr + at_u, b_u.to(u_ptr.dtype.element_ty), mask=mask_u)


class _Packed(NamedTuple):
    """A packed weight, and what the weight was when it was packed."""

    state: tuple[int, ...]
    values: torch.Tensor


_packed_weights: WeakTensorKeyDictionary = WeakTensorKeyDictionary()


def packed_weight(weight: torch.Tensor, scale: Sequence[int], config: Config) -> torch.Tensor:
    """The weight as a launch reads it; kept while the weight lives, packed again if it changed."""
    forms: dict[tuple[int, ...], _Packed] = _packed_weights.setdefault(weight, {})
    shape = packed_shape(weight, scale, config)
    form = forms.get(shape)
    fits = form is not None and form.values.device == weight.device
    if not fits or form.values.dtype != weight.dtype:
        form = _Packed((), weight.new_empty(shape))
    now = _Packed(state_of(weight), form.values)
    plan_pack(weight.detach(), now.values, scale, stale=form.state != now.state).run()
    forms[shape] = now
    return now.values


def packed_shape(
    weight: torch.Tensor, scale: Sequence[int], config: Config
) -> tuple[int, int, int]:
    """Phases, products and taps in one; padded C; padded O."""
    out_channels, channels = weight.shape[:2]
    return (48 if scale[0] == 2 else 36, *config.padded(channels, out_channels))


def plan_pack(
    weight: torch.Tensor, u: torch.Tensor, scale: Sequence[int], *, stale: bool
) -> Launch:
    """Plan u from the weight [O, C, 3, 3, 3], any strides; only what changed unless stale."""
    slabs, c_padded, o_padded = u.shape
    block_c = min(32, next_power_of_two(c_padded))
    block_o = min(32, next_power_of_two(o_padded))
    arguments = {"w_ptr": weight, "u_ptr": u, "C": weight.shape[1], "O": weight.shape[0]}
    return Launch(
        kernel=pack_kernel,
        grid=(slabs, cdiv(c_padded, block_c), cdiv(o_padded, block_o)),
        arguments=arguments | strides("w", weight, "octhw"),
        constants={
            "C_PADDED": c_padded,
            "O_PADDED": o_padded,
            "TAPS_T": 2 if scale[0] == 2 else 3,
            "STALE": stale,
            "BLOCK_C": block_c,
            "BLOCK_O": block_o,
        },
        num_warps=8,
    )
