"""Named configurations: which autoencoder and which transformer belong together."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .autoencoder_2d import AutoEncoder2D, AutoEncoder2DConfig
from .dc_ae import VideoDCAE, VideoDCAEConfig
from .hunyuan_vae import HunyuanVAE, HunyuanVAEConfig
from .mmdit import MMDiTConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class SystemConfig:
    """The networks of one system.

    Args:
        vae: the autoencoder.
        transformer: the diffusion transformer.

    Raises:
        ValueError: the transformer is not made for the autoencoder's latents.
    """

    vae: HunyuanVAEConfig | VideoDCAEConfig | AutoEncoder2DConfig
    transformer: MMDiTConfig

    @property
    def vae_class(self) -> type[HunyuanVAE] | type[VideoDCAE] | type[AutoEncoder2D]:
        """The class of autoencoders that the configuration is of."""
        classes = (HunyuanVAE, VideoDCAE, AutoEncoder2D)
        return next(c for c in classes if isinstance(self.vae, c.config_class))

    def build_vae(self) -> HunyuanVAE | VideoDCAE | AutoEncoder2D:
        """An autoencoder of the configuration."""
        build: Any = self.vae_class
        vae: HunyuanVAE | VideoDCAE | AutoEncoder2D = build(self.vae)
        return vae

    def __post_init__(self) -> None:
        """Check that the two fit each other."""
        channels = self.vae.latent_channels
        if channels != self.transformer.latent_channels:
            raise ValueError(
                f"SystemConfig: the autoencoder's latent has {channels} channels, the "
                f"transformer takes {self.transformer.latent_channels}"
            )


def open_sora_v2() -> SystemConfig:
    """The released Open-Sora v2: text and image to video, decoded in spatial tiles."""
    return SystemConfig(vae=HunyuanVAEConfig(use_spatial_tiling=True), transformer=MMDiTConfig())


def open_sora_v2_t2v() -> SystemConfig:
    """Open-Sora v2 before its image-to-video stage: no condition tokens."""
    return SystemConfig(
        vae=HunyuanVAEConfig(use_spatial_tiling=True), transformer=MMDiTConfig(cond_embed=False)
    )


def open_sora_v2_hc() -> SystemConfig:
    """The high-compression Open-Sora v2: latents of the Video DC-AE, decoded in tiles."""
    return SystemConfig(
        vae=VideoDCAEConfig(use_spatial_tiling=True, use_temporal_tiling=True),
        transformer=MMDiTConfig(in_channels=128, patch_size=1),
    )


def flux_dev() -> SystemConfig:
    """FLUX.1-dev, the image model that Open-Sora v2 makes first frames with."""
    return SystemConfig(
        vae=AutoEncoder2DConfig(),
        transformer=MMDiTConfig(
            guidance_embed=True, cond_embed=False, fused_qkv=True, use_liger_rope=False
        ),
    )


def tiny() -> SystemConfig:
    """A system that trains and samples in minutes on two cores: 64 x 64 pixels, 17 frames."""
    return SystemConfig(
        vae=HunyuanVAEConfig(
            block_out_channels=(16, 32, 64, 64), layers_per_block=1, norm_num_groups=4
        ),
        transformer=MMDiTConfig(
            vec_in_dim=96,
            context_in_dim=96,
            hidden_size=192,
            num_heads=3,
            depth=2,
            depth_single_blocks=4,
            axes_dim=(16, 24, 24),
        ),
    )


def tiny_hc() -> SystemConfig:
    """The high-compression twin of `tiny`: 128 x 128 pixels, 16 frames."""
    widths, depths = (8, 16, 32, 64, 64, 64), (1, 1, 1, 1, 2, 2)
    return SystemConfig(
        vae=VideoDCAEConfig(
            latent_channels=64,
            encoder_widths=widths,
            encoder_depths=depths,
            decoder_widths=widths,
            decoder_depths=depths,
        ),
        transformer=dataclasses.replace(tiny().transformer, patch_size=1),
    )


PRESETS: dict[str, Callable[[], SystemConfig]] = {
    "open-sora-v2": open_sora_v2,
    "open-sora-v2-t2v": open_sora_v2_t2v,
    "open-sora-v2-hc": open_sora_v2_hc,
    "flux-dev": flux_dev,
    "tiny": tiny,
    "tiny-hc": tiny_hc,
}


def preset(name: str) -> SystemConfig:
    """Return the configuration of a named system.

    Args:
        name: one of `PRESETS`.

    Returns:
        Its configuration.

    Raises:
        ValueError: another name.
    """
    if name not in PRESETS:
        raise ValueError(f"there is no preset {name!r}; presets are {', '.join(PRESETS)}")
    return PRESETS[name]()
