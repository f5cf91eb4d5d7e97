"""The deep autoencoder's training: what it starts from, what images teach it, its latents."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor

from opensora_fast.models import VideoDCAE
from opensora_fast.train.autoencoder import AutoencoderStage
from opensora_fast.train.clips import ClipSource
from opensora_fast.train.config import Phase, RunConfig
from opensora_fast.train.latents import normalize_latents
from opensora_fast.train.video_dc_ae import initialize, reconstruct


def other_taps(parameters: dict[str, Tensor]) -> list[Tensor]:
    """All temporal taps but the middle one."""
    kernels = [p for p in parameters.values() if p.dim() == 5 and p.shape[2] > 1]
    before = [p[:, :, : p.shape[2] // 2] for p in kernels]
    return before + [p[:, :, p.shape[2] // 2 + 1 :] for p in kernels]


@pytest.fixture
def model(hc_config: RunConfig) -> VideoDCAE:
    model = VideoDCAE(hc_config.autoencoder.model).requires_grad_(False)
    initialize(model, torch.Generator().manual_seed(0))
    return model


def test_a_still_clip_starts_as_an_image(model: VideoDCAE) -> None:
    """What the image phase learns holds for clips, step in time or not."""
    image = torch.rand(2, 3, 1, 32, 64, generator=torch.Generator().manual_seed(1)) * 2 - 1
    clip = image.expand(-1, -1, 8, -1, -1)
    z, z_clip = model.encode(image), model.encode(clip)
    assert z.std() > 0.05
    torch.testing.assert_close(z_clip, z.expand(-1, -1, 2, -1, -1), rtol=1e-4, atol=1e-5)
    y, y_clip = model.decode(z), model.decode(z_clip)
    assert y.std() > 0.05
    torch.testing.assert_close(y_clip, y.expand(-1, -1, 8, -1, -1), rtol=1e-4, atol=1e-5)


def test_images_teach_the_middle_tap_alone(hc_config: RunConfig, hc_source: ClipSource) -> None:
    stage = AutoencoderStage(hc_config.autoencoder, hc_source, 0, torch.float32)
    before = {name: p.detach().clone() for name, p in stage.parameters.items()}
    stage.step(0)
    stage.step(1)
    assert len(other_taps(stage.parameters)) > 20
    assert all((taps == 0).all() for taps in other_taps(stage.parameters))
    still = [name for name, p in stage.parameters.items() if torch.equal(p, before[name])]
    assert not still
    stage.step(2)  # the first on clips
    assert any((taps != 0).any() for taps in other_taps(stage.parameters))


def test_a_few_steps_lower_the_loss(hc_config: RunConfig, hc_source: ClipSource) -> None:
    phase = Phase(num_frames=1, batch_size=4, num_steps=8, first_lr=1.0, last_lr=0.5)
    small = dataclasses.replace(hc_config.autoencoder, phases=(phase,), image_batch_size=4)
    stage = AutoencoderStage(small, hc_source, 0, torch.float32)
    frames = torch.from_numpy(hc_source.rendered[:8, :1])
    clips = frames.permute(0, 4, 1, 2, 3) / 127.5 - 1

    def loss() -> float:
        with torch.no_grad():
            return float(stage._loss(clips, phase, torch.Generator().manual_seed(0))[0])

    before = loss()
    for step in range(stage.num_steps):
        stage.step(step)
    assert loss() < 0.8 * before


def test_noise_is_added_to_what_is_decoded_only(model: VideoDCAE) -> None:
    x = torch.rand(1, 3, 8, 32, 32, generator=torch.Generator().manual_seed(1)) * 2 - 1
    exact = reconstruct(model, x, 0.0, torch.Generator())
    assert torch.equal(exact.pixels, model(x)[0])
    noisy = reconstruct(model, x, 0.5, torch.Generator().manual_seed(0))
    assert torch.equal(noisy.latents, exact.latents)
    assert not torch.allclose(noisy.pixels, exact.pixels, atol=1e-3)
    torch.testing.assert_close(exact.penalty, exact.latents.square().mean())


def test_normalising_changes_latents_and_no_pixel(model: VideoDCAE) -> None:
    g = torch.Generator().manual_seed(2)
    for name, p in model.named_parameters():
        if "project" in name and p.dim() == 5:
            p.normal_(std=0.1, generator=g)  # all taps, and no symmetry between channels
    clips = torch.rand(6, 3, 8, 32, 64, generator=g) * 2 - 1
    before, z = model(clips)
    assert not torch.allclose(z.std(dim=(0, 2, 3, 4)), torch.ones(16), atol=0.1)
    normalize_latents(model, clips)
    after, z = model(clips)
    torch.testing.assert_close(z.std(dim=(0, 2, 3, 4)), torch.ones(16), rtol=0, atol=1e-4)
    torch.testing.assert_close(after, before, rtol=1e-4, atol=1e-4)
