"""Cases of pixel_unshuffle_average3d: small ones to check, the Video DC-AE's to measure."""

from __future__ import annotations

from ..common.pixel_shuffle import size_of_small
from ..common.pixel_shuffle_cases import ShuffleCase, bytes, make_inputs
from ..inputs import elements

__all__ = ["BENCH", "CHECK", "DIFFERENTIABLE", "HUGE", "Case", "bytes", "flops", "make_inputs"]


class Case(ShuffleCase):
    """One problem: x is [batch, channels, *size]."""

    __slots__ = ()

    @property
    def y_size(self) -> tuple[int, int, int]:
        """T, H and W of the output."""
        return size_of_small(self.size, self.scale)


_SPACE = (1, 2, 2)

CHECK = (
    Case(name="video", batch=2, channels=16, out_channels=32, size=(4, 4, 6)),
    Case(name="few-channels", batch=2, channels=6, out_channels=12, size=(4, 6, 10)),
    Case(name="space", channels=8, out_channels=16, size=(3, 4, 34), scale=_SPACE),
    Case(name="same-channels", channels=5, out_channels=5, size=(2, 2, 6), added=False),
    Case(name="frames", batch=2, channels=3, out_channels=6, size=(4, 3, 5), scale=(2, 1, 1)),
    Case(name="channels-only", channels=40, out_channels=5, size=(2, 3, 3), scale=(1, 1, 1)),
    Case(name="wider-groups", channels=48, out_channels=8, size=(2, 4, 2), scale=_SPACE),
    Case(name="unshuffle", channels=3, out_channels=24, size=(2, 4, 6), added=False),
    Case(name="identity", channels=3, out_channels=3, size=(2, 3, 5), scale=(1, 1, 1)),
    Case(name="uneven", channels=4, out_channels=12, size=(3, 2, 5), scale=(3, 1, 5)),
    Case(name="no-box", channels=3, out_channels=2, size=(1, 4, 6), scale=_SPACE),
    Case(name="wide", channels=131, out_channels=262, size=(1, 2, 6), scale=_SPACE),
    Case(name="fp32-added", channels=4, out_channels=8, size=(2, 2, 4), wide_added=True),
    Case(name="no-frame", channels=4, out_channels=8, size=(0, 2, 2)),
    Case(name="empty", batch=0, channels=4, out_channels=8, size=(2, 2, 4)),
)

# A tile of 32 frames of 256 x 256 pixels through the encoder of the dc-ae-f32t4c128.
BENCH = (
    Case(name="cpu.block", channels=128, out_channels=256, size=(4, 64, 64), scale=_SPACE),
    Case(name="tile.down0", channels=128, out_channels=256, size=(32, 256, 256), scale=_SPACE),
    Case(name="tile.down1", channels=256, out_channels=512, size=(32, 128, 128), scale=_SPACE),
    Case(name="tile.down2", channels=512, out_channels=512, size=(32, 64, 64), scale=_SPACE),
    Case(name="tile.down3", channels=512, out_channels=1024, size=(32, 32, 32)),
    Case(name="tile.down4", channels=1024, out_channels=1024, size=(16, 16, 16)),
    Case(name="tile.out", channels=1024, out_channels=128, size=(8, 8, 8), scale=(1, 1, 1)),
)

HUGE = Case(
    name="768px.untiled", channels=128, out_channels=256, size=(128, 768, 768), scale=_SPACE
)

DIFFERENTIABLE = (0, 3)


def flops(case: Case, backward: bool = False) -> int:
    """One addition per element of x (`added` is about one of each group); backwards one product."""
    return elements(case.shape)
