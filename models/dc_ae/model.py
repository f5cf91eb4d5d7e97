"""The Video DC-AE: pixels in [-1, 1] to scaled latents and back.

Tensors are `[B, C, T, H, W]`.
"""

from __future__ import annotations

import functools
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from opensora_fast.kernels.footprint import peak_bytes

from ..checkpoint import CheckpointMixin
from ..latent_space import LatentSpaceMixin
from ..memory import rows_within, too_small, twin_of, unwatched
from ..slabs import LAYOUT
from ..tiling import TileSizes, tile_in_space, tile_in_time
from .blocks import Decoder, Encoder
from .config import VideoDCAEConfig
from .slabs import (
    Cut,
    Task,
    decode_in_slabs,
    encode_in_slabs,
    extra_work,
    height_cut,
    num_slab_stages,
)

Tiling = Literal["none", "original"]


class VideoDCAE(CheckpointMixin[VideoDCAEConfig], LatentSpaceMixin[VideoDCAEConfig], nn.Module):
    """Deep-compression video autoencoder: deterministic, not causal, zeros around the video.

    T frames, a multiple of 4, become `T / 4` latent frames, and t latent frames become `4 t`
    frames. An image stays one frame both ways; so do two and four frames, which become one latent
    frame that decodes to one frame.

    Args:
        config: sizes, latent scale and tiling; the default is the released model, untiled.

    Numerics:
        Each convolution, norm and residual rounds to the parameters' dtype; the linear attention
        is summed in fp32, where the original rounds its sums to bf16. Tiling changes the result,
        because attention and borders then see a tile instead of the whole.

    Source:
        Chen et al., Deep Compression Autoencoder (2024, arXiv 2410.10733); Open-Sora v2 dc_ae.
    """

    config_class: ClassVar[type[VideoDCAEConfig]] = VideoDCAEConfig
    is_causal: ClassVar[bool] = False

    def __init__(self, config: VideoDCAEConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or VideoDCAEConfig()
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)
        self.use_spatial_tiling = config.use_spatial_tiling
        self.use_temporal_tiling = config.use_temporal_tiling

        overlap, size, frames = (
            config.tile_overlap_factor, config.spatial_tile_size, config.temporal_tile_size
        )  # fmt: skip
        latent_size = size // config.spatial_compression_ratio
        latent_frames = frames // config.time_compression_ratio
        self.encode_tile = TileSizes.from_windows(size, latent_size, overlap)
        self.decode_tile = TileSizes.from_windows(latent_size, size, overlap)
        self.encode_time_tile = TileSizes.from_windows(frames, latent_frames, overlap)
        self.decode_time_tile = TileSizes.from_windows(latent_frames, frames, overlap)

    @property
    def last_layer(self) -> nn.Parameter:
        """The weight that makes the pixels; adversarial training balances its losses on it."""
        weight: nn.Parameter = self.decoder.project_out.op_list[2].conv.weight  # type: ignore
        return weight

    def encode(
        self,
        x: Tensor,
        sample_posterior: bool = True,
        generator: torch.Generator | None = None,
        *,
        tiling: Tiling | None = None,
        memory_budget: int | None = None,
    ) -> Tensor:
        """Encode a video to a scaled latent: `z = encoder(x) / scaling_factor`.

        Args:
            x: video `[B, in_channels, T, H, W]` in [-1, 1]; T is 1, 2 or a multiple of 4, H and W
                are multiples of 32.
            sample_posterior: without effect: there is no posterior to draw from. The argument is
                that of the variational autoencoders.
            generator: without effect, likewise.
            tiling: `"none"` for the whole at once, `"original"` for the original's blended tiles
                in time and space; by default what the model is set to.
            memory_budget: bytes that tensors may hold at one time, the latent included, x and the
                parameters not. The result is that of the whole at once, to rounding; without
                gradients.

        Returns:
            Latent `[B, latent_channels, t, h, w]` of x's dtype.

        Raises:
            ValueError: x has dimensions, channels or a size that the network does not take, the
                budget is too small (the least is named), or there is a tiling beside it.
        """
        self._check_video(x)
        if memory_budget is not None:
            return self._within(memory_budget, tiling, x, "encode")
        in_time, in_space = self._tilings(tiling)
        if in_time and x.shape[2] > self.encode_time_tile.window:
            return tile_in_time(
                x, lambda run: self._encode_space(run, in_space), self.encode_time_tile, False
            )
        return self._encode_space(x, in_space)

    def decode(
        self, z: Tensor, *, tiling: Tiling | None = None, memory_budget: int | None = None
    ) -> Tensor:
        """Decode a scaled latent to a video.

        Args:
            z: latent `[B, latent_channels, t, h, w]`.
            tiling: `"none"` for the whole at once, `"original"` for the original's blended tiles,
                which lose the last three frames where the last tile holds one latent frame
                (t = 13, 19, 25, ...); by default what the model is set to.
            memory_budget: bytes that tensors may hold at one time, the video included, z and the
                parameters not. The result is that of the whole at once, to rounding; without
                gradients.

        Returns:
            Video `[B, in_channels, T, H, W]`, about [-1, 1], not clamped.

        Raises:
            ValueError: z has other dimensions or channels, the budget is too small (the least is
                named), or there is a tiling beside it.
        """
        channels = self.config.latent_channels
        if z.dim() != 5 or z.shape[1] != channels or 0 in z.shape[2:]:
            raise ValueError(
                f"VideoDCAE.decode: expected [B, {channels}, t, h, w] with at least one frame, "
                f"row and column, got {list(z.shape)}"
            )
        if memory_budget is not None:
            return self._within(memory_budget, tiling, z, "decode")
        in_time, in_space = self._tilings(tiling)
        if in_time and z.shape[2] > self.decode_time_tile.window:
            return tile_in_time(
                z, lambda run: self._decode_space(run, in_space), self.decode_time_tile, False
            )
        return self._decode_space(z, in_space)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Encode and decode, as training needs it.

        Args:
            x: video `[B, in_channels, T, H, W]` in [-1, 1].

        Returns:
            The decoded video, the scaled latent.

        Raises:
            ValueError: x has a size that the network does not take.
        """
        z = self.encode(x)
        return self.decode(z), z

    def _scaled(self, z: Tensor) -> Tensor:
        factor = self.config.scaling_factor
        return z if factor is None else z / factor

    def _unscaled(self, z: Tensor) -> Tensor:
        factor = self.config.scaling_factor
        return z if factor is None else z * factor

    def _tilings(self, tiling: Tiling | None) -> tuple[bool, bool]:
        """Whether to tile in time, and in space."""
        if tiling not in (None, "none", "original"):
            raise ValueError(
                f"VideoDCAE: unknown tiling {tiling!r}, accepted are 'none' and 'original'"
            )
        if tiling is None:
            return self.use_temporal_tiling, self.use_spatial_tiling
        return (tiling == "original",) * 2

    @torch.no_grad()
    def _within(self, budget: int, tiling: Tiling | None, x: Tensor, task: Task) -> Tensor:
        """Encode or decode sample by sample, with as many rows at a time as the budget allows."""
        if tiling == "original":
            raise ValueError(f"VideoDCAE.{task}: give either memory_budget or a tiling")
        with unwatched():
            cut = _cut_within(self.config, task, tuple(x.shape), x.dtype, budget)
        return self._in_slabs(x, task, cut)

    def _in_slabs(self, x: Tensor, task: Task, cut: Cut | None) -> Tensor:
        """Encode or decode, sample by sample in slabs; None: the whole."""
        if cut is None:
            return self._encode_whole(x) if task == "encode" else self._decode_whole(x)
        done = [self._sample_in_slabs(sample[None], task, cut) for sample in x]
        return done[0] if len(done) == 1 else torch.cat(done)

    def _sample_in_slabs(self, x: Tensor, task: Task, cut: Cut) -> Tensor:
        if task == "encode":
            return self._scaled(encode_in_slabs(self.encoder, self.config, x, cut)).contiguous()
        z = self._unscaled(x).contiguous(memory_format=LAYOUT)
        return decode_in_slabs(self.decoder, self.config, z, cut)

    def _encode_space(self, x: Tensor, in_space: bool) -> Tensor:
        """Latent of a run of frames, in spatial tiles where asked for."""
        if in_space and max(x.shape[-2:]) > self.encode_tile.window:
            return tile_in_space(x, self._encode_whole, self.encode_tile)
        return self._encode_whole(x)

    def _decode_space(self, z: Tensor, in_space: bool) -> Tensor:
        """Frames of a run of latent frames, in spatial tiles where asked for."""
        if in_space and max(z.shape[-2:]) > self.decode_tile.window:
            return tile_in_space(z, self._decode_whole, self.decode_tile)
        return self._decode_whole(z)

    def _encode_whole(self, x: Tensor) -> Tensor:
        z: Tensor = self.encoder(x.contiguous(memory_format=LAYOUT))
        return self._scaled(z).contiguous()

    def _decode_whole(self, z: Tensor) -> Tensor:
        video: Tensor = self.decoder(self._unscaled(z).contiguous(memory_format=LAYOUT))
        return video.contiguous()

    def _check_video(self, x: Tensor) -> None:
        """Raise ValueError unless the encoder takes x."""
        config = self.config
        if x.dim() != 5 or x.shape[1] != config.in_channels or 0 in x.shape[2:]:
            raise ValueError(
                f"VideoDCAE.encode: expected [B, {config.in_channels}, T, H, W] with at least one "
                f"frame, row and column, got {list(x.shape)}"
            )
        time, space = config.time_compression_ratio, config.spatial_compression_ratio
        frames, height, width = x.shape[2:]
        # A power of two below the ratio halves to one frame, and stays one.
        if time % frames and frames % time:
            raise ValueError(
                f"VideoDCAE.encode: {frames} frames cannot be halved {time // 2} times: use 1 "
                f"frame or a multiple of {time}, such as {frames - frames % time or time} or "
                f"{frames - frames % time + time}"
            )
        if height % space or width % space:
            raise ValueError(
                f"VideoDCAE.encode: {height}x{width} pixels are no multiples of {space}: use "
                f"{max(height // space, 1) * space}x{max(width // space, 1) * space} or "
                f"{-(-height // space) * space}x{-(-width // space) * space}"
            )


@functools.lru_cache(maxsize=16)
def _cut_within(
    config: VideoDCAEConfig, task: Task, shape: tuple[int, ...], dtype: torch.dtype, budget: int
) -> Cut | None:
    """The cheapest cut that keeps within the budget; None: none is needed.

    Kept, because the videos of a session often have one size.
    """
    twin, meta = twin_of(VideoDCAE, config, dtype), torch.empty(shape, dtype=dtype, device="meta")

    def cut_at(stages: int, rows: int) -> Tensor:
        y: Tensor = twin._in_slabs(meta, task, Cut(stages, rows))
        return y

    if peak_bytes(lambda: twin._in_slabs(meta, task, None)) <= budget:
        return None
    cuts, least = [], []
    for stages in range(1, num_slab_stages(config) + 1):
        rows, needed = rows_within(
            functools.partial(cut_at, stages),
            height_cut(config, task, shape[3], stages),
            budget,
        )
        least.append(needed)
        if rows is not None:
            cuts.append(Cut(stages, rows))
    if not cuts:
        raise too_small(f"VideoDCAE.{task}", budget, min(least))
    return min(cuts, key=functools.partial(extra_work, config, task))
