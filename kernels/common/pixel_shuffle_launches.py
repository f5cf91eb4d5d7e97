"""The launches of the two pixel shuffles, to be compiled without a GPU."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from .catalogue import Compiled, meta
from .launch import Launch

# The released autoencoder's: two channels a block, one a block, one a run of channels.
_PAIRS = {
    "two": ((128, 32, 256, 256), (256, 32, 128, 128), (1, 2, 2)),
    "one": ((1024, 16, 16, 16), (1024, 8, 8, 8), (2, 2, 2)),
    "channels": ((1024, 8, 8, 8), (128, 8, 8, 8), (1, 1, 1)),
}


def launches(
    kind: str, plan: Callable[[Tensor, Tensor, tuple[int, int, int]], Launch]
) -> Iterator[Compiled]:
    """Launches between two videos of one sample, channels-last and contiguous.

    Args:
        kind: of kernel, for the names.
        plan: of a large video, a small one and the size of a block.
    """
    last = torch.channels_last_3d
    for name, (large, small, scale) in _PAIRS.items():
        launch = plan(_video(large, last), _video(small, last), scale)
        yield Compiled(name=f"{kind}.{name}", launch=launch, promises=("ld.global.v4",))
    large, small, scale = _PAIRS["two"]
    dense = torch.contiguous_format
    launch = plan(_video(large, dense), _video(small, dense), scale)
    yield Compiled(name=f"{kind}.contiguous", launch=launch)


def _video(shape: tuple[int, ...], layout: torch.memory_format) -> Tensor:
    return meta(1, *shape).to(memory_format=layout)
