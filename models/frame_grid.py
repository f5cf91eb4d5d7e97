"""Which numbers of frames an autoencoder gives back whole."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FrameGrid:
    """Numbers of frames that come back from encoding and decoding as they went in.

    Args:
        ratio: pixel frames per latent frame.
        causal: the first frame has a latent frame of its own, so that `ratio k + 1` frames come
            back; else an image does, and `ratio k` frames for k of at least 2 (one latent frame is
            an image), for ratio 1 any number.
    """

    ratio: int
    causal: bool

    def __str__(self) -> str:
        """Name the numbers as a message to a user would."""
        if self.causal:
            return f"{self.ratio}k + 1"
        return f"1 or a multiple of {self.ratio} from {2 * self.ratio} on"

    def __contains__(self, num_frames: int) -> bool:
        """Whether so many frames come back."""
        return self.at_most(num_frames) == num_frames

    def at_most(self, num_frames: int) -> int:
        """The largest number of frames up to `num_frames`, at least 1."""
        if self.causal or self.ratio == 1:
            return max(num_frames - 1, 0) // self.ratio * self.ratio + 1
        whole = num_frames // self.ratio * self.ratio
        return whole if whole > self.ratio else 1

    def at_least(self, num_frames: int) -> int:
        """The smallest number of frames from `num_frames` on."""
        below = self.at_most(num_frames)
        if below >= num_frames:
            return below
        if self.causal or below > 1:
            return below + self.ratio
        return 2 * self.ratio

    def latent_frames(self, num_frames: int) -> int:
        """Latent frames of a number of frames of the grid."""
        return (num_frames - 1) // self.ratio + 1
