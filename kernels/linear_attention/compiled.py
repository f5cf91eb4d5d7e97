"""The launches of linear_attention, to be compiled without a GPU."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from ..common.catalogue import NUM_MULTIPROCESSORS, Compiled, meta
from ..common.launch import Launch
from . import _triton
from .launch import pick

# Stage 3 of the released autoencoder, on a tile of 32 frames of 256 x 256 pixels.
_CHANNELS, _SIZE, _HEAD_DIM = 512, (32, 32, 32), 32


def launches(capability: int) -> Iterator[Compiled]:
    """Both layouts in bf16, and channels-last in fp32."""
    num_sms = NUM_MULTIPROCESSORS[capability]
    for dtype, last in ((torch.bfloat16, True), (torch.bfloat16, False), (torch.float32, True)):
        name = f"{'channels_last' if last else 'contiguous'}.{str(dtype)[6:]}"
        aggregate, apply = plans(last, dtype, num_sms)
        yield Compiled(name=f"aggregate.{name}", launch=aggregate, promises=("ld.global",))
        yield Compiled(name=f"apply.{name}", launch=apply)


def plans(channels_last: bool, dtype: torch.dtype, num_sms: int) -> tuple[Launch, Launch]:
    """The launches of the two kernels for one call."""
    qkv = meta(1, 3 * _CHANNELS, *_SIZE, dtype=dtype)
    y = meta(1, 2 * _CHANNELS, *_SIZE, dtype=dtype)
    if channels_last:
        qkv, y = (video.to(memory_format=torch.channels_last_3d) for video in (qkv, y))
    config = pick(_triton.problem_of(qkv, _HEAD_DIM), num_sms)
    partial, state = _triton.new_sums(qkv, _HEAD_DIM, config)
    taps = meta(125, 3 * _CHANNELS, dtype=dtype)
    point = meta(3 * _CHANNELS, _HEAD_DIM, 1, 1, 1, dtype=dtype)
    return (
        _triton.plan_aggregate(qkv, taps, point, y, partial, (5, 5, 5), config),
        _triton.plan_apply(qkv, y, state, _HEAD_DIM, 1e-15, config),
    )
