"""The launches of joint_qk_norm_rope, to be compiled without a GPU."""

from __future__ import annotations

from collections.abc import Iterator

from ..common.catalogue import NUM_MULTIPROCESSORS, Compiled
from ..qk_norm_rope.compiled import plan


def launches(capability: int) -> Iterator[Compiled]:
    """The released transformer's; the other forms of the kernel are among qk_norm_rope's own."""
    launch = plan(128, "half", False, NUM_MULTIPROCESSORS[capability])
    yield Compiled(name="stream", launch=launch)
