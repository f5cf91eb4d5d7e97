"""The launches of pixel_unshuffle_average3d, to be compiled without a GPU.

Its gradient is channel_duplicate_shuffle3d's kernel without anything added.
"""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from ..common import pixel_shuffle_launches
from ..common._triton_pixel_shuffle import plan_gather
from ..common.catalogue import Compiled
from ..common.launch import Launch


def launches(capability: int) -> Iterator[Compiled]:
    """The released autoencoder's, with something added."""
    yield from pixel_shuffle_launches.launches("gather", plan)


def plan(large: Tensor, small: Tensor, scale: tuple[int, int, int]) -> Launch:
    """The launch between two videos."""
    return plan_gather(large, small, small, scale, 0.25)
