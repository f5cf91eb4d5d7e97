"""Named training runs."""

from __future__ import annotations

from collections.abc import Callable

from opensora_fast.models import HunyuanVAEConfig, MMDiTConfig, VideoDCAEConfig

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


def tiny_hc() -> RunConfig:
    """The high-compression twin: 128x128, 16 frames, 4x32x32 latents like the tiny model's tokens.

    The three deepest stages are equally wide, because only then the shortcuts of an image and of a
    clip pair the same channels, and the image phase trains what the clip phases continue.
    """
    widths, depths = (8, 16, 32, 64, 64, 64), (1, 1, 1, 1, 2, 2)
    return RunConfig(
        text=TextConfig(init_from="tiny"),
        autoencoder=AutoencoderConfig(
            model=VideoDCAEConfig(
                latent_channels=64, encoder_widths=widths, encoder_depths=depths,
                decoder_widths=widths, decoder_depths=depths,
                use_spatial_tiling=True, use_temporal_tiling=True,
            ),
            phases=(
                Phase(num_frames=1, batch_size=8, num_steps=2000, first_lr=1.0, last_lr=0.3),
                # Batches of two clips: at five times these rates their noise undoes the images.
                Phase(
                    num_frames=16, batch_size=2, num_steps=420, first_lr=0.08, last_lr=0.0,
                    image_share=0.2,
                ),
                # Short clips for many scenes in a step, long ones to end with; squares for corners.
                Phase(
                    num_frames=8, batch_size=4, num_steps=500, first_lr=0.15, last_lr=0.03,
                    image_share=0.3, squared_weight=5.0,
                ),
                Phase(
                    num_frames=16, batch_size=2, num_steps=300, first_lr=0.05, last_lr=0.0,
                    image_share=0.2, squared_weight=5.0,
                ),
                Phase(
                    num_frames=8, batch_size=4, num_steps=400, first_lr=0.15, last_lr=0.0,
                    image_share=0.2, squared_weight=20.0, decoder_only=True,
                ),
            ),
            crop_size=128, clips_per_scene=1, real_share=0.1, large_share=0.0,
            latent_weight=1e-4, latent_noise=0.1, teacher="tiny", distill_weight=0.1,
            ema_decay=0.995,
        ),
        diffusion=DiffusionConfig(
            model=MMDiTConfig(
                in_channels=64, vec_in_dim=TEXT_WIDTH, context_in_dim=TEXT_WIDTH, hidden_size=192,
                num_heads=3, depth=2, depth_single_blocks=4, axes_dim=(16, 24, 24), patch_size=1,
            ),
            num_steps=1000,
            muon_lr=0.005,  # it starts where the tiny model's training ended
            adamw_lr=3e-4,
            decay_from=0.4,
            init_from="tiny",
            init_outer=True,
            clips_per_scene=2,
        ),
        out="runs/tiny-hc",
        num_frames=16,
        size=128,
    )  # fmt: skip


PRESETS: dict[str, Callable[[], RunConfig]] = {"tiny": tiny, "tiny-hc": tiny_hc}
