"""Configuration of the HunyuanVideo autoencoder; the defaults are the released model."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..configuration import as_int_tuple, require_positive


@dataclass(frozen=True, kw_only=True, slots=True)
class HunyuanVAEConfig:
    """Sizes, latent scale and tiling of a `HunyuanVAE`.

    Args:
        in_channels: channels of the video.
        out_channels: channels of the decoded video.
        latent_channels: channels of the latent.
        block_out_channels: width of each resolution level, multiples of `norm_num_groups`.
        layers_per_block: residual blocks of an encoder level; the decoder has one more.
        norm_num_groups: groups of every group norm.
        scale_factor: latents are multiplied by it after the shift, so that their spread is about 1.
        shift_factor: subtracted from latents before the scale.
        time_compression_ratio: pixel frames per latent frame after the first, 4 or 8.
        spatial_compression_ratio: pixels per latent element along rows and columns.
        mid_block_add_attention: attention at the lowest resolution.
        sample_size: edge of a spatial tile in pixels.
        sample_tsize: length of a temporal tile in pixel frames.
        tile_overlap_factor: part of a tile that overlaps the next.
        use_spatial_tiling: work in spatial tiles when the video is larger than one.
        use_temporal_tiling: work in temporal tiles when the video is longer than one.

    Raises:
        ValueError: sizes that contradict each other.
    """

    in_channels: int = 3
    out_channels: int = 3
    latent_channels: int = 16
    block_out_channels: tuple[int, ...] = (128, 256, 512, 512)
    layers_per_block: int = 2
    norm_num_groups: int = 32
    scale_factor: float = 0.476986
    shift_factor: float = 0.0
    time_compression_ratio: int = 4
    spatial_compression_ratio: int = 8
    mid_block_add_attention: bool = True
    sample_size: int = 256
    sample_tsize: int = 64
    tile_overlap_factor: float = 0.25
    use_spatial_tiling: bool = False
    use_temporal_tiling: bool = False

    def __post_init__(self) -> None:
        """Check that the sizes fit each other."""
        as_int_tuple(self, "block_out_channels")
        require_positive(
            self, "in_channels", "out_channels", "latent_channels", "block_out_channels",
            "layers_per_block", "norm_num_groups", "scale_factor", "sample_size", "sample_tsize",
        )  # fmt: skip
        if self.time_compression_ratio not in (4, 8):
            raise ValueError(
                "HunyuanVAEConfig: time_compression_ratio must be 4 or 8, "
                f"got {self.time_compression_ratio}"
            )
        ratio = self.spatial_compression_ratio
        if ratio < 1 or ratio & (ratio - 1):
            raise ValueError(
                f"HunyuanVAEConfig: spatial_compression_ratio must be a power of two, got {ratio}"
            )
        if self.time_compression_ratio == 8 and ratio != 8:
            raise ValueError(
                "HunyuanVAEConfig: time_compression_ratio 8 shrinks time and space together and "
                f"needs spatial_compression_ratio 8, got {ratio}"
            )
        levels = len(self.block_out_channels)
        deepest = max(ratio, self.time_compression_ratio)
        if levels - 1 < math.log2(deepest):
            raise ValueError(
                f"HunyuanVAEConfig: {levels} levels of block_out_channels cannot compress "
                f"{deepest} times; at least {int(math.log2(deepest)) + 1} are needed"
            )
        for width in self.block_out_channels:
            if width % self.norm_num_groups:
                raise ValueError(
                    f"HunyuanVAEConfig: width {width} is not a multiple of "
                    f"norm_num_groups {self.norm_num_groups}"
                )
        if not 0 <= self.tile_overlap_factor < 1:
            raise ValueError(
                "HunyuanVAEConfig: tile_overlap_factor must lie in [0, 1), "
                f"got {self.tile_overlap_factor}"
            )

    def strides(self) -> tuple[tuple[int, int, int], ...]:
        """Stride (frames, rows, columns) behind each encoder level; (1, 1, 1) is no resampling.

        The decoder's levels upsample by the same list, in the same order: its first level, the
        lowest resolution, upsamples by the first entry.
        """
        last = len(self.block_out_channels) - 1
        num_space = int(math.log2(self.spatial_compression_ratio))
        # Ratio 4 shrinks time on the last levels that resample, ratio 8 wherever space shrinks.
        first_time = last - 2 if self.time_compression_ratio == 4 else 0
        last_time = last if self.time_compression_ratio == 4 else num_space
        return tuple(
            (
                2 if first_time <= level < last_time else 1,
                2 if level < num_space else 1,
                2 if level < num_space else 1,
            )
            for level in range(last + 1)
        )
