"""Tiles of a head's tokens, frames of queries and keys: what all kernels of attention share.

Frames: queries come in F frames of P. Frame f sees the first K + f P keys; dense attention is one
frame that sees all K keys. A tile lies inside one frame, so that what it meets ends (or begins) at
a scalar bound and no mask exists but in the last block.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import triton
import triton.language as tl
from triton.tools.tensor_descriptor import TensorDescriptor

from ..common.availability import capability
from ..common.launch import Launch, strides
from ..common.tune import choose
from .launch import Config, Kernel, Problem, candidates, describable, pick

LOG2_E = math.log2(math.e)


@triton.jit
def load_tile(
    x, pid_b, pid_n, start, length, stride_b, stride_l, stride_n, stride_d,
    UNIT: tl.constexpr, DESCRIPTORS: tl.constexpr,
    D: tl.constexpr, BLOCK_L: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """Tokens start, start + 1, ... of a head, [BLOCK_L, BLOCK_D]; zero from ``length`` and D on."""
    if DESCRIPTORS:
        # An axis order in which the unit axes lead, so that the reshape is none in memory.
        b_x = x.load([pid_b, pid_n, start, 0]).reshape(BLOCK_L, BLOCK_D)
    else:
        # Offsets inside a block fit 32 bits (see launch.why_not); its start is a pointer.
        offs_l = tl.arange(0, BLOCK_L)
        offs_d = tl.arange(0, BLOCK_D)
        # Strides come in units, so that the compiler sees what they are multiples of.
        first = pid_b.to(tl.int64) * stride_b + pid_n.to(tl.int64) * stride_n
        first = (first + (tl.zeros([], dtype=tl.int64) + start) * stride_l) * UNIT
        at = offs_l[:, None] * (stride_l * UNIT) + offs_d[None, :] * stride_d
        mask = (offs_l < length - start)[:, None]
        if D != BLOCK_D:
            mask = mask & (offs_d < D)[None, :]
        b_x = tl.load(x + first + at, mask=mask, other=0.0)
    return b_x


@triton.jit
def locate(N, F, frame_length, BLOCK_L: tl.constexpr, LAST_FIRST: tl.constexpr):
    """The program's batch item, head, frame, first token, and the end of its frame."""
    pid = tl.program_id(0)
    tiles_per_frame = tl.cdiv(frame_length, BLOCK_L)
    tile = pid % (F * tiles_per_frame)
    if LAST_FIRST:
        tile = F * tiles_per_frame - 1 - tile
    pid_bn = pid // (F * tiles_per_frame)
    pid_f = tile // tiles_per_frame
    start = pid_f * frame_length + tile % tiles_per_frame * BLOCK_L
    return pid_bn // N, pid_bn % N, pid_f, start, (pid_f + 1) * frame_length


@triton.jit
def store_tile(
    x_ptr, b_x, pid_b, pid_n, start, end, N, length,
    D: tl.constexpr, BLOCK_L: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """Write tokens start to end of a head into a dense [B, length, N, D]."""
    offs_l = tl.arange(0, BLOCK_L)
    offs_d = tl.arange(0, BLOCK_D)
    first = ((pid_b.to(tl.int64) * length + start) * N + pid_n) * D
    mask = (offs_l < end - start)[:, None]
    if D != BLOCK_D:
        mask = mask & (offs_d < D)[None, :]
    at = offs_l[:, None] * (N * D) + offs_d[None, :]
    tl.store(x_ptr + first + at, b_x.to(x_ptr.dtype.element_ty), mask=mask)


class Frames(NamedTuple):
    """``count`` frames of ``queries``; the first sees ``keys`` keys, each next one a frame more."""

    count: int
    queries: int
    keys: int


def problem(kernel: Kernel, *tensors: torch.Tensor) -> Problem:
    """What the launch of a kernel that reads these tensors [B, L, N, D] depends on."""
    return Problem(
        kernel=kernel,
        head_dim=tensors[0].shape[3],
        half_precision=tensors[0].element_size() == 2,
        describable=all(map(describable, tensors)),
    )


def choice(kernel: Kernel, *tensors: torch.Tensor) -> Config:
    """The launch of a kernel that reads these tensors [B, L, N, D]."""
    asked, device = problem(kernel, *tensors), capability(tensors[0].device)
    default = pick(asked, device)
    return choose("attention", asked, tensors[0], default, lambda: candidates(asked, device))


def read(config: Config, name: str, x: torch.Tensor, rows: int) -> dict:
    """Arguments for an input [B, L, N, D] that is read ``rows`` tokens at a time."""
    tile = _descriptor(x, rows, config.block_d) if config.descriptors else x
    return {name: tile} | stride_arguments(name, x, config.stride_unit)


def stride_arguments(name: str, x: torch.Tensor, unit: int) -> dict:
    """The strides of ``x`` [B, L, N, D], those of tokens, heads and items in units."""
    steps = strides(name, x, "blnd")
    return {k: step if k.endswith("_d") else step // unit for k, step in steps.items()}


def plan(
    kernel, arguments: dict, q: torch.Tensor, frames: Frames, tiles_per_frame: int,
    config: Config, form: dict,
) -> Launch:  # fmt: skip
    """Plan one program per tile, frame and head; ``scale`` turns products into powers of two."""
    batch, _, num_heads, head_dim = q.shape
    arguments = arguments | {"N": num_heads, "F": frames.count, "P": frames.queries}
    arguments |= {"K": frames.keys, "scale": LOG2_E / math.sqrt(head_dim)}
    return Launch(
        kernel=kernel,
        grid=(tiles_per_frame * frames.count * num_heads * batch,),
        arguments=arguments,
        constants={
            "UNIT": config.stride_unit,
            "DESCRIPTORS": config.descriptors,
            "D": head_dim,
            "BLOCK_D": config.block_d,
            "BLOCK_Q": config.block_q,
            "BLOCK_K": config.block_k,
        }
        | form,
        num_warps=config.num_warps,
        num_stages=config.num_stages,
    )


def _descriptor(x: torch.Tensor, rows: int, block_d: int) -> TensorDescriptor:
    x = x.transpose(1, 2)
    # The step of an axis of one element is never taken, but must be a whole number of 16 bytes.
    steps = [s if n > 1 else 16 for n, s in zip(x.shape[:3], x.stride()[:3], strict=True)]
    return TensorDescriptor(x, list(x.shape), [*steps, 1], [1, 1, rows, block_d])
