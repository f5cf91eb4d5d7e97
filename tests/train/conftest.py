"""A run so small that each of its stages takes a fraction of a second."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from opensora_fast.models import HunyuanVAEConfig, MMDiTConfig, VideoDCAEConfig
from opensora_fast.train.clips import ClipSource
from opensora_fast.train.config import (
    AutoencoderConfig,
    DiffusionConfig,
    Phase,
    RunConfig,
    TextConfig,
)
from opensora_fast.train.diffusion import DiffusionData
from opensora_fast.train.shapes import training_scenes

RUN = RunConfig(
    text=TextConfig(width=16, num_layers=1, num_heads=2, num_steps=2, batch_size=4, warmup_steps=1),
    autoencoder=AutoencoderConfig(
        model=HunyuanVAEConfig(
            block_out_channels=(8, 8, 8, 8),
            layers_per_block=1,
            norm_num_groups=4,
            latent_channels=4,
            scale_factor=1.0,
        ),
        phases=(
            Phase(num_frames=1, batch_size=2, num_steps=2, first_lr=1.0, last_lr=0.5),
            Phase(num_frames=5, batch_size=1, num_steps=2, first_lr=0.5, last_lr=0.1),
        ),
        image_batch_size=2,
        crop_size=16,
        real_share=0.5,
        warmup_steps=1,
    ),
    diffusion=DiffusionConfig(
        model=MMDiTConfig(
            in_channels=16,
            vec_in_dim=16,
            context_in_dim=16,
            hidden_size=32,
            num_heads=2,
            depth=1,
            depth_single_blocks=1,
            axes_dim=(4, 6, 6),
        ),
        num_steps=4,
        batch_size=4,
        clips_per_scene=1,
        warmup_steps=1,
    ),
    num_frames=5,
    size=16,
    autoencoder_precision="fp32",
    transformer_precision="fp32",
)

_WIDTHS = (4, 8, 16, 32, 32, 32)

HC_RUN = dataclasses.replace(
    RUN,
    autoencoder=AutoencoderConfig(
        model=VideoDCAEConfig(
            latent_channels=16,
            encoder_widths=_WIDTHS,
            encoder_depths=(1,) * 6,
            decoder_widths=_WIDTHS,
            decoder_depths=(1,) * 6,
        ),
        phases=(
            Phase(num_frames=1, batch_size=2, num_steps=2, first_lr=1.0, last_lr=0.5),
            Phase(num_frames=8, batch_size=2, num_steps=2, first_lr=0.5, last_lr=0.1),
        ),
        image_batch_size=2,
        crop_size=32,
        clips_per_scene=1,
        real_share=0.0,
        large_share=0.0,
        latent_noise=0.1,
        warmup_steps=1,
    ),
    diffusion=dataclasses.replace(
        RUN.diffusion,
        model=dataclasses.replace(RUN.diffusion.model, patch_size=1),
    ),
    num_frames=8,
    size=32,
)


@pytest.fixture
def config(tmp_path: Path) -> RunConfig:
    return dataclasses.replace(RUN, out=str(tmp_path / "run"))


@pytest.fixture
def hc_config(tmp_path: Path) -> RunConfig:
    """A deep autoencoder whose latents have as many channels as the other run's tokens."""
    return dataclasses.replace(HC_RUN, out=str(tmp_path / "hc"))


@pytest.fixture(scope="session")
def source() -> ClipSource:
    """Rendered clips, and one real clip that is large enough for large crops."""
    video = np.random.default_rng(0).integers(0, 256, (6, 36, 40, 3), dtype=np.uint8)
    return ClipSource(5, 16, [video], seed=0, rounds=1)


@pytest.fixture(scope="session")
def hc_source() -> ClipSource:
    """Rendered clips of 8 frames of 32x32."""
    return ClipSource(8, 32, [], seed=0, rounds=1)


@pytest.fixture(scope="session")
def diffusion_data() -> DiffusionData:
    """Latents and text drawn at random, in the shapes of the run."""
    g = torch.Generator().manual_seed(0)
    scenes = len(training_scenes())
    return DiffusionData(
        clips=torch.randn(scenes, 1, 4, 2, 2, 2, generator=g).half(),
        images=torch.randn(scenes, 1, 4, 1, 2, 2, generator=g).half(),
        txt=torch.randn(scenes + 1, 6, 16, generator=g),
        vec=torch.randn(scenes + 1, 16, generator=g),
    )
