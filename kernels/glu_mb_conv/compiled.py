"""The launches of glu_mb_conv, to be compiled without a GPU."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from ..common.catalogue import Compiled, meta
from . import _triton, walk
from .launch import CHANNELS, SLAB, STRIP

# Stage 3 of the released autoencoder, on a tile of 32 frames of 256 x 256 pixels.
_WIDTH, _SIZE = 2048, (32, 32, 32)


def launches(capability: int) -> Iterator[Compiled]:
    """Both kernels in bf16 and fp32, on a slab from the middle of the clip."""
    plan = walk.choose(_SIZE, _WIDTH, SLAB, STRIP, CHANNELS)
    strip = (plan.rows, _SIZE[2], plan.channels)
    for dtype in (torch.bfloat16, torch.float32):
        step = walk.Step(
            products=meta(2, plan.frames, *strip, dtype=dtype),
            ring=meta(2, 2 * plan.frames, *strip, dtype=torch.float32),
            first_channel=0,
            num_frames=_SIZE[0],
            new_frames=(plan.frames, plan.frames),
            out_frames=(plan.frames - 1, plan.frames),
            out_rows=(0, plan.rows),
        )
        bias, taps = meta(2 * _WIDTH, dtype=dtype), meta(27, 2 * _WIDTH, dtype=dtype)
        gated = meta(plan.frames, plan.rows, _SIZE[2], _WIDTH, dtype=dtype)
        # Neighbours in memory are read 16 bytes at a time.
        for name, launch in (
            ("activate", _triton.plan_activate(step, bias)),
            ("gate", _triton.plan_gate(step, taps, bias, gated)),
        ):
            yield Compiled(
                name=f"{name}.{str(dtype)[6:]}", launch=launch, promises=("ld.global.v4",)
            )
