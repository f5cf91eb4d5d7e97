"""The launches of channel_duplicate_shuffle3d, to be compiled without a GPU.

Its gradient is pixel_unshuffle_average3d's kernel without anything added.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch

from ..common._triton_pixel_shuffle import plan_spread
from ..common.catalogue import Compiled, meta
from ..common.launch import Launch

_SPACE = (1, 2, 2)


def launches(capability: int) -> Iterator[Compiled]:
    """The released autoencoder's: two channels a block, one a block, one a run of channels."""
    vectors = ("ld.global.v4",)
    large, small = (128, 32, 256, 256), (256, 32, 128, 128)
    yield Compiled(name="spread.two", launch=plan(large, small, _SPACE), promises=vectors)
    large, small = (1024, 16, 16, 16), (1024, 8, 8, 8)
    yield Compiled(name="spread.one", launch=plan(large, small, (2, 2, 2)), promises=vectors)
    large, small = (1024, 8, 8, 8), (128, 8, 8, 8)
    yield Compiled(name="spread.channels", launch=plan(large, small, (1, 1, 1)), promises=vectors)
    large, small = (128, 32, 256, 256), (256, 32, 128, 128)
    launch = plan(large, small, _SPACE, torch.contiguous_format)
    yield Compiled(name="spread.contiguous", launch=launch)


def plan(
    large_shape: tuple[int, ...],
    small_shape: tuple[int, ...],
    scale: tuple[int, int, int],
    layout: torch.memory_format = torch.channels_last_3d,
) -> Launch:
    """The launch between two videos of one sample, with something added."""
    large, small = (
        meta(1, *shape).to(memory_format=layout) for shape in (large_shape, small_shape)
    )
    return plan_spread(small, large, large, scale, 1.0)
