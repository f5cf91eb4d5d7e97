"""The launches of frame_causal_attention, to be compiled without a GPU.

Heads of up to 256 channels are among the launches of attention: the kernels are the same.
"""

from __future__ import annotations

from collections.abc import Iterator

from ..attention._triton_tiles import Frames
from ..attention.compiled import plan
from ..attention.launch import KERNELS
from ..common.catalogue import Compiled

HEAD_DIM = 512
TOKENS_PER_FRAME = 96 * 96  # a latent frame of 768 x 768 pixels
NUM_FRAMES = 33


def launches(capability: int) -> Iterator[Compiled]:
    """The released head by descriptors, where there are any, and by pointers."""
    hopper = ("wgmma.mma_async", "cp.async.bulk.tensor") if capability == 90 else ()
    frames = Frames(NUM_FRAMES, TOKENS_PER_FRAME, TOKENS_PER_FRAME)
    for kernel in KERNELS:
        for describable in (True, False) if capability >= 90 else (False,):
            launch = plan(
                kernel, HEAD_DIM, capability, describable=describable, num_heads=1, frames=frames
            )
            yield Compiled(
                name=f"{kernel}.{HEAD_DIM}" + ("" if describable else ".pointers"),
                launch=launch,
                promises=hopper if describable else (),
            )
