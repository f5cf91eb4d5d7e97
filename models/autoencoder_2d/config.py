"""Configuration of the image autoencoder; the defaults are the released model."""

from __future__ import annotations

from dataclasses import dataclass

from ..configuration import as_int_tuple, require_positive

NUM_GROUPS = 32


@dataclass(frozen=True, kw_only=True, slots=True)
class AutoEncoder2DConfig:
    """Sizes and latent scale of an `AutoEncoder2D`.

    Args:
        ch: width of the first level, a multiple of 32.
        ch_mult: width of each level over the first's.
        num_res_blocks: residual blocks of an encoder level; the decoder has one more.
        z_channels: channels of the latent.
        in_channels: channels of the image.
        out_channels: channels of the decoded image.
        scale_factor: latents are multiplied by it after the shift.
        shift_factor: subtracted from latents before the scale.

    Raises:
        ValueError: sizes that are not positive, or widths that do not divide into 32 groups.
    """

    ch: int = 128
    ch_mult: tuple[int, ...] = (1, 2, 4, 4)
    num_res_blocks: int = 2
    z_channels: int = 16
    in_channels: int = 3
    out_channels: int = 3
    scale_factor: float = 0.3611
    shift_factor: float = 0.1159

    def __post_init__(self) -> None:
        """Check that the sizes fit each other."""
        as_int_tuple(self, "ch_mult")
        require_positive(
            self, "ch", "ch_mult", "num_res_blocks", "z_channels", "in_channels", "out_channels",
            "scale_factor",
        )  # fmt: skip
        for width in (self.ch, *(self.ch * mult for mult in self.ch_mult)):
            if width % NUM_GROUPS:
                raise ValueError(
                    f"AutoEncoder2DConfig: width {width} is not a multiple of {NUM_GROUPS}"
                )

    @property
    def latent_channels(self) -> int:
        """Channels of the latent, under the name that every autoencoder's configuration has."""
        return self.z_channels

    @property
    def time_compression_ratio(self) -> int:
        """Every frame has a latent frame of its own."""
        return 1

    @property
    def spatial_compression_ratio(self) -> int:
        """Pixels per latent element along rows and columns: each level but the last halves."""
        return int(2 ** (len(self.ch_mult) - 1))
