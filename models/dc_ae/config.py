"""Configuration of the Video DC-AE; the defaults are the released model f32t4c128."""

from __future__ import annotations

from dataclasses import dataclass

from ..configuration import as_int_tuple, require_positive

RES_BLOCK = "ResBlock"
EVIT_BLOCK = "EViTS5_GLU"
HEAD_DIM = 32

Scale = tuple[int, int, int]


@dataclass(frozen=True, kw_only=True, slots=True)
class VideoDCAEConfig:
    """Sizes, latent scale and tiling of a `VideoDCAE`.

    Args:
        in_channels: channels of the video.
        latent_channels: channels of the latent; divides the last width of either half.
        encoder_widths: channels of each stage, from pixels to latent.
        encoder_depths: blocks of each encoder stage.
        decoder_widths: channels of each stage, from pixels to latent too.
        decoder_depths: blocks of each decoder stage.
        block_types: of each stage, `ResBlock` (two convolutions) or `EViTS5_GLU` (linear attention
            and a gated depthwise convolution; widths are multiples of 32).
        temporal_downsample: whether the step behind each stage halves time as well as space.
        scaling_factor: latents are divided by it on the way out and multiplied on the way in; None
            leaves them. The original trains its video model with 0.493 and samples with None.
        spatial_tile_size: edge of a spatial tile in pixels.
        temporal_tile_size: length of a temporal tile in pixel frames.
        tile_overlap_factor: part of a tile that overlaps the next.
        use_spatial_tiling: work in blended spatial tiles when the video is larger than one.
        use_temporal_tiling: work in blended temporal tiles when the video is longer than one.

    Raises:
        ValueError: sizes that contradict each other.
    """

    in_channels: int = 3
    latent_channels: int = 128
    encoder_widths: tuple[int, ...] = (128, 256, 512, 512, 1024, 1024)
    encoder_depths: tuple[int, ...] = (2, 2, 2, 3, 3, 3)
    decoder_widths: tuple[int, ...] = (128, 256, 512, 512, 1024, 1024)
    decoder_depths: tuple[int, ...] = (3, 3, 3, 3, 3, 3)
    block_types: tuple[str, ...] = (RES_BLOCK,) * 3 + (EVIT_BLOCK,) * 3
    temporal_downsample: tuple[bool, ...] = (False, False, False, True, True, False)
    scaling_factor: float | None = None
    spatial_tile_size: int = 256
    temporal_tile_size: int = 32
    tile_overlap_factor: float = 0.25
    use_spatial_tiling: bool = False
    use_temporal_tiling: bool = False

    def __post_init__(self) -> None:
        """Check that the sizes fit each other."""
        as_int_tuple(self, "encoder_widths", "encoder_depths", "decoder_widths", "decoder_depths")
        object.__setattr__(self, "block_types", tuple(self.block_types))
        object.__setattr__(self, "temporal_downsample", tuple(map(bool, self.temporal_downsample)))
        require_positive(
            self, "in_channels", "latent_channels", "encoder_widths", "encoder_depths",
            "decoder_widths", "decoder_depths", "spatial_tile_size", "temporal_tile_size",
        )  # fmt: skip
        if self.scaling_factor is not None:
            require_positive(self, "scaling_factor")
        stages = len(self.encoder_widths)
        for name in (
            "encoder_depths", "decoder_widths", "decoder_depths", "block_types",
            "temporal_downsample",
        ):  # fmt: skip
            if len(getattr(self, name)) != stages:
                raise ValueError(
                    f"VideoDCAEConfig: {name} has {len(getattr(self, name))} stages, "
                    f"encoder_widths has {stages}"
                )
        if self.temporal_downsample[-1]:
            raise ValueError("VideoDCAEConfig: there is no step behind the last stage")
        self._check_widths()
        if not 0 <= self.tile_overlap_factor < 1:
            raise ValueError(
                "VideoDCAEConfig: tile_overlap_factor must lie in [0, 1), "
                f"got {self.tile_overlap_factor}"
            )
        time, space = self.time_compression_ratio, self.spatial_compression_ratio
        if self.spatial_tile_size % space or self.temporal_tile_size % time:
            raise ValueError(
                f"VideoDCAEConfig: tiles of {self.spatial_tile_size} pixels and "
                f"{self.temporal_tile_size} frames are no multiples of {space} and {time}"
            )

    def _check_widths(self) -> None:
        for kind in set(self.block_types) - {RES_BLOCK, EVIT_BLOCK}:
            raise ValueError(
                f"VideoDCAEConfig: unknown block type {kind!r}, accepted are {RES_BLOCK} and "
                f"{EVIT_BLOCK}"
            )
        for name in ("encoder_widths", "decoder_widths"):
            widths: tuple[int, ...] = getattr(self, name)
            for width, kind in zip(widths, self.block_types, strict=True):
                if kind == EVIT_BLOCK and width % HEAD_DIM:
                    raise ValueError(
                        f"VideoDCAEConfig: {name} has {width} in a stage of {EVIT_BLOCK}, whose "
                        f"heads have {HEAD_DIM} channels"
                    )
            if widths[-1] % self.latent_channels:
                raise ValueError(
                    f"VideoDCAEConfig: {name} ends with {widths[-1]}, no multiple of "
                    f"latent_channels {self.latent_channels}"
                )
            # An image steps in space alone, whatever the stage does to a video.
            for low, high in zip(widths[1:], widths, strict=False):
                if 4 * high % low:
                    raise ValueError(
                        f"VideoDCAEConfig: {name} steps from {high} to {low} channels: the "
                        f"shortcut needs 4 x {high} to be a multiple of {low}"
                    )

    @property
    def num_stages(self) -> int:
        """Stages of either half."""
        return len(self.encoder_widths)

    @property
    def time_compression_ratio(self) -> int:
        """Pixel frames per latent frame."""
        return int(2 ** sum(self.temporal_downsample))

    @property
    def spatial_compression_ratio(self) -> int:
        """Pixels per latent element along rows and columns."""
        return int(2 ** (self.num_stages - 1))

    @property
    def scale_factor(self) -> float:
        """Factor on latents: one over `scaling_factor`."""
        return 1.0 if self.scaling_factor is None else 1.0 / self.scaling_factor

    @property
    def shift_factor(self) -> float:
        """Latents are not shifted."""
        return 0.0
