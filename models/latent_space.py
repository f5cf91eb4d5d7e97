"""What every autoencoder says of its latents: their scale, channels and size."""

from __future__ import annotations

from typing import ClassVar, Generic, Protocol, TypeVar

from torch import Tensor

from .frame_grid import FrameGrid


class LatentSpace(Protocol):
    """The part of an autoencoder's configuration that describes its latents."""

    @property
    def scale_factor(self) -> float:
        """Factor on shifted latents."""

    @property
    def shift_factor(self) -> float:
        """Subtracted from latents before the factor."""

    @property
    def latent_channels(self) -> int:
        """Channels of the latent."""

    @property
    def time_compression_ratio(self) -> int:
        """Pixel frames per latent frame after the first."""

    @property
    def spatial_compression_ratio(self) -> int:
        """Pixels per latent element along rows and columns."""


SpaceT = TypeVar("SpaceT", bound=LatentSpace)


class LatentSpaceMixin(Generic[SpaceT]):
    """The latent space in an autoencoder's configuration, as read-only properties of its own."""

    config: SpaceT
    is_causal: ClassVar[bool] = True

    @property
    def frame_grid(self) -> FrameGrid:
        """The numbers of frames that come back whole."""
        return FrameGrid(self.time_compression_ratio, self.is_causal)

    @property
    def scale_factor(self) -> float:
        """Factor on shifted latents."""
        return self.config.scale_factor

    @property
    def shift_factor(self) -> float:
        """Subtracted from latents before the factor."""
        return self.config.shift_factor

    @property
    def z_channels(self) -> int:
        """Channels of the latent."""
        return self.config.latent_channels

    @property
    def time_compression_ratio(self) -> int:
        """Pixel frames per latent frame after the first."""
        return self.config.time_compression_ratio

    @property
    def spatial_compression_ratio(self) -> int:
        """Pixels per latent element along rows and columns."""
        return self.config.spatial_compression_ratio

    def latent_size(self, num_frames: int, height: int, width: int) -> tuple[int, int, int]:
        """Size of the latent of a video.

        Args:
            num_frames: frames T.
            height: rows in pixels.
            width: columns in pixels.

        Returns:
            Latent frames, rows and columns.
        """
        time, space = self.time_compression_ratio, self.spatial_compression_ratio
        return (num_frames - 1) // time + 1, (height - 1) // space + 1, (width - 1) // space + 1

    def _scaled(self, z: Tensor) -> Tensor:
        """Give latents a spread of about 1: `scale * (z - shift)`."""
        return self.scale_factor * (z - self.shift_factor)

    def _unscaled(self, z: Tensor) -> Tensor:
        """Undo `_scaled`: `z / scale + shift`."""
        return z / self.scale_factor + self.shift_factor
