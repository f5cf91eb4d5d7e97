"""The HunyuanVideo autoencoder: pixels in [-1, 1] to scaled latents and back.

Tensors are `[B, C, T, H, W]`.
"""

from __future__ import annotations

import functools
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from opensora_fast.kernels import causal_conv3d
from opensora_fast.kernels.footprint import peak_bytes

from ..checkpoint import CheckpointMixin
from ..latent_space import LatentSpaceMixin
from ..memory import too_small, twin_of, unwatched
from ..posterior import DiagonalGaussian
from ..slabs import LAYOUT
from ..tiling import TileSizes, tile_in_space, tile_in_time
from .blocks import Decoder, Encoder, Gathered
from .config import HunyuanVAEConfig
from .links import Convolution, Link, Output, Whole, links_of
from .within import Search, Step, run

Task = Literal["encode", "decode"]


class HunyuanVAE(CheckpointMixin[HunyuanVAEConfig], LatentSpaceMixin[HunyuanVAEConfig], nn.Module):
    """Causal 3-D variational autoencoder.

    T frames become `(T - 1) // 4 + 1` latent frames, and t latent frames become `4 (t - 1) + 1`
    frames: 4 k + 1 frames come back exactly. Group norms span all frames of a tile.

    Args:
        config: sizes, latent scale and tiling; the default is the released model, untiled.

    Numerics:
        Each norm, convolution and residual rounds to the parameters' dtype. Tiling changes the
        result, because norms and borders then see a tile instead of the whole.

    Source:
        Kong et al. 2024 (HunyuanVideo, arXiv 2412.03603), section 4.1; Open-Sora v2 hunyuan_vae.
    """

    config_class: ClassVar[type[HunyuanVAEConfig]] = HunyuanVAEConfig

    def __init__(self, config: HunyuanVAEConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or HunyuanVAEConfig()
        moments = 2 * config.latent_channels
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)
        self.quant_conv = nn.Conv3d(moments, moments, kernel_size=1)
        self.post_quant_conv = nn.Conv3d(
            config.latent_channels, config.latent_channels, kernel_size=1
        )
        self.use_spatial_tiling = config.use_spatial_tiling
        self.use_temporal_tiling = config.use_temporal_tiling

        overlap, size, tsize = config.tile_overlap_factor, config.sample_size, config.sample_tsize
        latent_size = size // 2 ** (len(config.block_out_channels) - 1)
        latent_tsize = tsize // config.time_compression_ratio
        self.encode_tile = TileSizes.from_windows(size, latent_size, overlap)
        self.decode_tile = TileSizes.from_windows(latent_size, size, overlap)
        self.encode_time_tile = TileSizes.from_windows(tsize, latent_tsize, overlap)
        self.decode_time_tile = TileSizes.from_windows(latent_tsize, tsize, overlap)

    @property
    def last_layer(self) -> nn.Parameter:
        """The weight that makes the pixels; adversarial training balances its losses on it."""
        weight: nn.Parameter = self.decoder.conv_out.conv.weight  # type: ignore[assignment]
        return weight

    def encode_posterior(self, x: Tensor) -> DiagonalGaussian:
        """Encode a video to the distribution of its (unscaled) latent, in tiles where asked for.

        Args:
            x: video `[B, in_channels, T, H, W]` in [-1, 1], T at least 1.

        Returns:
            The posterior over `[B, latent_channels, t, h, w]`.

        Raises:
            ValueError: x has other dimensions or channels.
        """
        _check_video(x, self.config.in_channels, "encode")
        if self.use_temporal_tiling and x.shape[2] > self.encode_time_tile.window:
            moments = tile_in_time(x, self._encode_space, self.encode_time_tile, causal=True)
        else:
            moments = self._encode_space(x)
        return DiagonalGaussian(moments)

    def encode(
        self,
        x: Tensor,
        sample_posterior: bool = True,
        generator: torch.Generator | None = None,
        *,
        memory_budget: int | None = None,
    ) -> Tensor:
        """Encode a video to a scaled latent: `z = scale * (mean + std * n - shift)`.

        Args:
            x: video `[B, in_channels, T, H, W]` in [-1, 1], T at least 1.
            sample_posterior: draw n from the standard normal; else n is zero.
            generator: source of the noise; the global generator by default.
            memory_budget: bytes that tensors may hold at one time, the latent included, x and the
                parameters not. No tiles then: the result is that of the whole at once, to rounding;
                the less memory, the more is computed twice. Without gradients.

        Returns:
            Latent `[B, latent_channels, t, h, w]` of x's dtype.

        Raises:
            ValueError: x has other dimensions or channels, or the budget is too small (the least is
                named).
        """
        if memory_budget is None:
            posterior = self.encode_posterior(x)
        else:
            _check_video(x, self.config.in_channels, "encode")
            posterior = DiagonalGaussian(self._within(memory_budget, x, "encode"))
        return self._scale(posterior.sample(generator) if sample_posterior else posterior.mode())

    def decode(self, z: Tensor, *, memory_budget: int | None = None) -> Tensor:
        """Decode a scaled latent to a video, in tiles where asked for.

        Args:
            z: latent `[B, latent_channels, t, h, w]`.
            memory_budget: bytes that tensors may hold at one time, the video included, z and the
                parameters not. No tiles then: the result is that of the whole at once, to rounding;
                the less memory, the more is computed twice. Without gradients.

        Returns:
            Video `[B, out_channels, T, H, W]`, about [-1, 1], not clamped.

        Raises:
            ValueError: z has other dimensions or channels, or the budget is too small (the least is
                named).
        """
        _check_video(z, self.config.latent_channels, "decode")
        if memory_budget is not None:
            return self._within(memory_budget, z, "decode")
        z = self._unscaled(z)
        if self.use_temporal_tiling and z.shape[2] > self.decode_time_tile.window:
            return tile_in_time(z, self._decode_space, self.decode_time_tile, causal=True)
        return self._decode_space(z)

    def forward(
        self, x: Tensor, sample_posterior: bool = True, generator: torch.Generator | None = None
    ) -> tuple[Tensor, DiagonalGaussian, Tensor]:
        """Encode and decode, as training needs it.

        Args:
            x: video `[B, in_channels, T, H, W]` in [-1, 1].
            sample_posterior: draw the latent; else take the mean.
            generator: source of the noise.

        Returns:
            The decoded video, the posterior, the scaled latent.

        Raises:
            ValueError: x has other dimensions or channels.
        """
        posterior = self.encode_posterior(x)
        z = self._scale(posterior.sample(generator) if sample_posterior else posterior.mode())
        return self.decode(z), posterior, z

    def _scale(self, z: Tensor) -> Tensor:
        """The latent as the diffusion model sees it."""
        return self._scaled(z)

    @torch.no_grad()
    def _within(self, budget: int, x: Tensor, task: Task) -> Tensor:
        """The posterior's moments, or the video, by the steps that repeat least within a budget."""
        links = self._links(task)
        shape = tuple(x.shape)
        for link in links:
            shape = link.shape(shape)
        with unwatched():
            steps = self._steps_within(budget, x, shape, task)
        if steps is None:
            return self._at_once(x, task)
        result = torch.empty(shape, dtype=x.dtype, device=x.device)
        for i in range(x.shape[0]):
            run(links, steps, x[i : i + 1], result[i : i + 1])
        return result

    def _steps_within(
        self, budget: int, x: Tensor, shape: tuple[int, ...], task: Task
    ) -> list[Step] | None:
        """Of every sample, for a result of a shape; None: the whole batch fits at once."""
        name = f"HunyuanVAE.{task}"
        twin = twin_of(HunyuanVAE, self.config, x.dtype)
        with torch.device("meta"):
            given, result = torch.empty_like(x, device="meta"), torch.empty(shape, dtype=x.dtype)
        drawing = 0
        if task == "encode":
            drawing = peak_bytes(lambda: twin._scale(DiagonalGaussian(result).sample()))
        whole = peak_bytes(lambda: twin._at_once(given, task))
        if max(whole, result.nbytes + drawing) <= budget:
            return None
        search = _search(self.config, task, (1, *x.shape[1:]), x.dtype)
        steps = search.within(budget - result.nbytes) if result.nbytes + drawing <= budget else None
        if steps is None:
            least = min(whole, result.nbytes + search.least())
            raise too_small(name, budget, max(least, result.nbytes + drawing))
        return steps

    def _at_once(self, x: Tensor, task: Task) -> Tensor:
        return self._encode_whole(x) if task == "encode" else self._decode_whole(self._unscaled(x))

    def _links(self, task: Task) -> list[Link]:
        """The network as a chain."""
        links: list[Link] = []
        if task == "encode":
            links.append(Convolution(self.encoder.conv_in))
            for level in self.encoder.down_blocks:
                links += links_of(level)
            return [*links, Whole(self._moments_of, 2 * self.config.latent_channels)]
        for level in self.decoder.up_blocks:
            links += links_of(level)
        entry = Whole(self._until_levels, self.config.block_out_channels[-1])
        return [entry, *links, Output(self.decoder.conv_norm_out, self.decoder.conv_out)]

    def _until_levels(self, z: Tensor, _: Tensor | None) -> Gathered:
        """What enters the decoder's levels."""
        return self.decoder.until_levels(self._decoder_input(self._unscaled(z)))

    def _moments_of(self, x: Tensor, moments: Tensor | None) -> Gathered:
        """The posterior's moments of what leaves the encoder's levels."""
        return self._of_encoded(self.encoder.from_levels(x, moments)), None

    def _encode_space(self, x: Tensor) -> Tensor:
        """Moments of a run of frames, in spatial tiles where asked for."""
        if self.use_spatial_tiling and max(x.shape[-2:]) > self.encode_tile.window:
            return tile_in_space(x, self._encode_whole, self.encode_tile)
        return self._encode_whole(x)

    def _decode_space(self, z: Tensor) -> Tensor:
        """Frames of a run of latent frames, in spatial tiles where asked for."""
        if self.use_spatial_tiling and max(z.shape[-2:]) > self.decode_tile.window:
            return tile_in_space(z, self._decode_whole, self.decode_tile)
        return self._decode_whole(z)

    def _encode_whole(self, x: Tensor) -> Tensor:
        return self._of_encoded(self.encoder(x.contiguous(memory_format=LAYOUT)))

    def _of_encoded(self, x: Tensor) -> Tensor:
        moments = causal_conv3d(x, self.quant_conv.weight, self.quant_conv.bias)
        return moments.contiguous()

    def _decode_whole(self, z: Tensor) -> Tensor:
        video: Tensor = self.decoder(self._decoder_input(z))
        return video.contiguous()

    def _decoder_input(self, z: Tensor) -> Tensor:
        z = z.contiguous(memory_format=LAYOUT)
        return causal_conv3d(z, self.post_quant_conv.weight, self.post_quant_conv.bias)


@functools.lru_cache(maxsize=16)
def _search(
    config: HunyuanVAEConfig, task: Task, shape: tuple[int, ...], dtype: torch.dtype
) -> Search:
    """Kept, because the videos of a session often have one size."""
    return Search(twin_of(HunyuanVAE, config, dtype)._links(task), shape, dtype)


def _check_video(x: Tensor, channels: int, name: str) -> None:
    """Raise ValueError unless x is a non-empty video of so many channels."""
    if x.dim() != 5 or x.shape[1] != channels or 0 in x.shape[2:]:
        raise ValueError(
            f"HunyuanVAE.{name}: expected [B, {channels}, T, H, W] with at least one frame, row "
            f"and column, got {list(x.shape)}"
        )
