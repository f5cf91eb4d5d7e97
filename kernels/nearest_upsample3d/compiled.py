"""The launches of nearest_upsample3d, to be compiled without a GPU."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from ..common.catalogue import Compiled, meta
from ..common.launch import Launch
from . import _triton


def launches(capability: int) -> Iterator[Compiled]:
    """The released VAE's largest upsampling in both layouts and directions."""
    # Channels-last, half-precision pixels are read 16 bytes at a time.
    vectors = ("ld.global.v4",)
    for backward in (False, True):
        direction = "backward" if backward else "forward"
        launch = plan(torch.channels_last_3d, backward)
        yield Compiled(name=f"{direction}.channels_last", launch=launch, promises=vectors)
        launch = plan(torch.contiguous_format, backward)
        yield Compiled(name=f"{direction}.contiguous", launch=launch)


def plan(layout: torch.memory_format, backward: bool) -> Launch:
    """The launch for the last upsampling of a 129-frame 768 px video."""
    x = meta(1, 256, 65, 288, 512).to(memory_format=layout)
    y = meta(1, 256, 129, 576, 1024).to(memory_format=layout)
    scale = (2, 2, 2)
    return _triton.plan_backward(y, x, scale) if backward else _triton.plan_forward(x, y, scale)
