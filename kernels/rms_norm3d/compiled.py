"""The launches of rms_norm3d, to be compiled without a GPU."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from ..common.catalogue import NUM_MULTIPROCESSORS, Compiled, meta
from ..common.launch import Launch
from . import _triton
from .launch import pick

# Stages of the released autoencoder: the widest video, the most channels.
SHAPES = {128: (32, 256, 256), 1024: (16, 16, 16)}


def launches(capability: int) -> Iterator[Compiled]:
    """Both stages and layouts in bf16, backwards also in fp32 with SiLU; the largest tile."""
    num_sms = NUM_MULTIPROCESSORS[capability]
    for last in (False, True):
        layout = "channels_last" if last else "contiguous"
        for channels in SHAPES:
            for backward in (False, True):
                direction = "backward" if backward else "forward"
                # Neighbours in memory are read 16 bytes at a time.
                yield Compiled(
                    name=f"{direction}.{channels}.{layout}",
                    launch=plan(channels, last, backward, num_sms),
                    promises=("ld.global.v4",),
                )
        launch = plan(1024, last, True, num_sms, "silu", torch.float32)
        yield Compiled(name=f"backward.silu.fp32.{layout}", launch=launch)
    launch = plan(256, False, True, num_sms, "silu", torch.float32)
    yield Compiled(name="backward.largest_tile.fp32", launch=launch)


def plan(
    channels: int,
    channels_last: bool,
    backward: bool,
    num_sms: int,
    activation: str = "none",
    dtype: torch.dtype = torch.bfloat16,
) -> Launch:
    """The launch for one tile of a video at a stage."""
    x = meta(1, channels, *SHAPES.get(channels, (32, 128, 128)), dtype=dtype)
    if channels_last:
        x = x.to(memory_format=torch.channels_last_3d)
    weight = meta(channels, dtype=dtype)
    config = pick(_triton.problem_of(x, backward), num_sms)
    if not backward:
        return _triton.plan_forward(x, weight, weight, 1e-5, activation, x, x, config)
    partial = _triton.new_partial(x, config)
    return _triton.plan_backward(x, x, weight, weight, 1e-5, activation, x, partial, config)
