"""Cases of channel_duplicate_shuffle3d: small ones to check, the Video DC-AE's to measure."""

from __future__ import annotations

from ..common.pixel_shuffle import size_of_large
from ..common.pixel_shuffle_cases import ShuffleCase, bytes, make_inputs
from ..inputs import elements

__all__ = ["BENCH", "CHECK", "DIFFERENTIABLE", "HUGE", "Case", "bytes", "flops", "make_inputs"]


class Case(ShuffleCase):
    """One problem: x is [batch, channels, *size]."""

    __slots__ = ()

    @property
    def y_size(self) -> tuple[int, int, int]:
        """T, H and W of the output."""
        return size_of_large(self.size, self.scale)


_SPACE = (1, 2, 2)

CHECK = (
    Case(name="video", batch=2, channels=32, out_channels=16, size=(2, 2, 3)),
    Case(name="few-channels", batch=2, channels=12, out_channels=6, size=(2, 3, 5)),
    Case(name="space", channels=16, out_channels=8, size=(3, 2, 17), scale=_SPACE),
    Case(name="same-channels", channels=5, out_channels=5, size=(1, 1, 3), added=False),
    Case(name="frames", batch=2, channels=6, out_channels=3, size=(2, 3, 5), scale=(2, 1, 1)),
    Case(name="channels-only", channels=5, out_channels=40, size=(2, 3, 3), scale=(1, 1, 1)),
    Case(name="more-channels", channels=8, out_channels=48, size=(2, 2, 1), scale=_SPACE),
    Case(name="shuffle", channels=24, out_channels=3, size=(1, 2, 3), added=False),
    Case(name="identity", channels=3, out_channels=3, size=(2, 3, 5), scale=(1, 1, 1)),
    Case(name="uneven", channels=12, out_channels=4, size=(1, 2, 1), scale=(3, 1, 5)),
    Case(name="no-box", channels=2, out_channels=3, size=(1, 2, 3), scale=_SPACE),
    Case(name="wide", channels=262, out_channels=131, size=(1, 1, 3), scale=_SPACE),
    Case(name="fp32-added", channels=8, out_channels=4, size=(1, 1, 2), wide_added=True),
    Case(name="no-frame", channels=8, out_channels=4, size=(0, 2, 2)),
    Case(name="empty", batch=0, channels=8, out_channels=4, size=(2, 2, 4)),
)

# A tile of 32 frames of 256 x 256 pixels through the decoder of the dc-ae-f32t4c128.
BENCH = (
    Case(name="cpu.block", channels=256, out_channels=128, size=(4, 32, 32), scale=_SPACE),
    Case(name="tile.in", channels=128, out_channels=1024, size=(8, 8, 8), scale=(1, 1, 1)),
    Case(name="tile.up4", channels=1024, out_channels=1024, size=(8, 8, 8)),
    Case(name="tile.up3", channels=1024, out_channels=512, size=(16, 16, 16)),
    Case(name="tile.up2", channels=512, out_channels=512, size=(32, 32, 32), scale=_SPACE),
    Case(name="tile.up1", channels=512, out_channels=256, size=(32, 64, 64), scale=_SPACE),
    Case(name="tile.up0", channels=256, out_channels=128, size=(32, 128, 128), scale=_SPACE),
)

HUGE = Case(
    name="768px.untiled", channels=256, out_channels=128, size=(128, 384, 384), scale=_SPACE
)

DIFFERENTIABLE = (0, 3)


def flops(case: Case, backward: bool = False) -> int:
    """One addition per element of the output, where there is something to add, and backwards."""
    return elements(case.y_shape) if case.added or backward else 0
