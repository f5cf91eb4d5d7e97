"""Normalised latents: another scale inside, the same autoencoder outside."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from opensora_fast.models import HunyuanVAE
from opensora_fast.train.config import RunConfig
from opensora_fast.train.latents import cache_latents, normalize_latents
from opensora_fast.train.shapes import training_scenes


@pytest.fixture
def vae(config: RunConfig) -> HunyuanVAE:
    torch.manual_seed(0)
    return HunyuanVAE(config.autoencoder.model).requires_grad_(False)


@pytest.fixture
def clips() -> Tensor:
    return torch.rand(6, 3, 5, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1


def reconstruct(vae: HunyuanVAE, clips: Tensor, sample: bool) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return vae.decode(vae.encode(clips, sample_posterior=sample, generator=generator))


@pytest.mark.parametrize("sample", [False, True])
def test_reconstructions_stay_and_latents_become_standard(
    vae: HunyuanVAE, clips: Tensor, sample: bool
) -> None:
    before = reconstruct(vae, clips, sample)
    latents = vae.encode(clips, sample_posterior=False)
    assert not torch.allclose(latents.std(dim=(0, 2, 3, 4)), torch.ones(4), atol=0.1)

    normalize_latents(vae, clips)
    torch.testing.assert_close(reconstruct(vae, clips, sample), before, rtol=1e-4, atol=1e-4)
    latents = vae.encode(clips, sample_posterior=False)
    mean, std = latents.mean(dim=(0, 2, 3, 4)), latents.std(dim=(0, 2, 3, 4))
    torch.testing.assert_close(mean, torch.zeros(4), rtol=0, atol=1e-4)
    torch.testing.assert_close(std, torch.ones(4), rtol=0, atol=1e-4)


def test_latents_are_computed_once(vae: HunyuanVAE, tmp_path: Path) -> None:
    path = tmp_path / "latents.safetensors"
    scenes = training_scenes()[:3]

    def cached() -> dict[str, Tensor]:
        return cache_latents(vae, scenes, path, clips_per_scene=2, num_frames=5, size=16, seed=0)

    first = cached()
    assert first["clips"].shape == (3, 2, 4, 2, 2, 2)
    assert first["images"].shape == (3, 2, 4, 1, 2, 2)
    assert first["clips"].dtype == torch.float16
    scenes = []  # would give nothing, were they not read
    again = cached()
    assert all(torch.equal(first[name], again[name]) for name in first)
