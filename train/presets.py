"""Named training runs."""

from __future__ import annotations

from collections.abc import Callable

from opensora_fast.models import HunyuanVAEConfig, MMDiTConfig

from .config import TEXT_WIDTH, AutoencoderConfig, DiffusionConfig, Phase, RunConfig, TextConfig


def tiny() -> RunConfig:
    """The model that is shipped: 64x64, 17 frames, trained on two CPU cores."""
    return RunConfig(
        text=TextConfig(),
        autoencoder=AutoencoderConfig(
            model=HunyuanVAEConfig(
                block_out_channels=(16, 32, 64, 64), layers_per_block=1, norm_num_groups=4,
                scale_factor=1.0, shift_factor=0.0, sample_size=256, sample_tsize=64,
                use_spatial_tiling=True, use_temporal_tiling=True,
            ),
            phases=(
                Phase(num_frames=1, batch_size=8, num_steps=2000, first_lr=1.0, last_lr=0.4),
                Phase(
                    num_frames=5, batch_size=4, num_steps=200, first_lr=0.5, last_lr=0.35,
                    image_share=0.1,
                ),
                Phase(
                    num_frames=17, batch_size=2, num_steps=1600, first_lr=0.35, last_lr=0.0,
                    image_share=0.15,
                ),
                Phase(
                    num_frames=17, batch_size=2, num_steps=900, first_lr=0.35, last_lr=0.0,
                    decoder_only=True,
                ),
            ),
        ),
        diffusion=DiffusionConfig(
            model=MMDiTConfig(
                in_channels=64, vec_in_dim=TEXT_WIDTH, context_in_dim=TEXT_WIDTH, hidden_size=192,
                num_heads=3, depth=2, depth_single_blocks=4, axes_dim=(16, 24, 24),
            ),
            num_steps=2300,
            clips_per_scene=4,
        ),
    )  # fmt: skip


PRESETS: dict[str, Callable[[], RunConfig]] = {"tiny": tiny}
