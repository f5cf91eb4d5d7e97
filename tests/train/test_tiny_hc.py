"""The twin's whole run: from a finished model to a folder that the pipeline loads."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from opensora_fast import VideoPipeline
from opensora_fast.models import VideoDCAE
from opensora_fast.train import tiny
from opensora_fast.train.config import RunConfig
from opensora_fast.train.shapes import training_scenes


@pytest.fixture
def few_scenes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Latents of ten sentences instead of a thousand."""
    monkeypatch.setattr(tiny, "training_scenes", lambda: training_scenes()[::120])
    monkeypatch.setattr(tiny, "NUM_CLIPS_FOR_STATISTICS", 10)


@pytest.mark.usefixtures("few_scenes")
def test_the_twin_ends_in_a_folder_that_samples(config: RunConfig, hc_config: RunConfig) -> None:
    without_real = dataclasses.replace(config.autoencoder, real_share=0.0, large_share=0.0)
    parent = str(tiny.train(dataclasses.replace(config, autoencoder=without_real)))
    config = dataclasses.replace(
        hc_config,
        text=dataclasses.replace(hc_config.text, init_from=parent),
        autoencoder=dataclasses.replace(hc_config.autoencoder, teacher=parent, distill_weight=0.1),
        diffusion=dataclasses.replace(hc_config.diffusion, init_from=parent, init_outer=True),
    )
    folder = tiny.train(config)
    out = Path(config.out)
    assert not (out / "text.state.safetensors").exists()  # its words are the parent's
    for name in ("t5", "clip"):
        own, theirs = (load_file(Path(f) / name / "model.safetensors") for f in (folder, parent))
        assert all(torch.equal(own[key], theirs[key]) for key in theirs)

    pipe = VideoPipeline.from_pretrained(folder, device="cpu")
    assert isinstance(pipe.vae, VideoDCAE)
    assert (pipe.defaults.num_frames, pipe.defaults.height) == (8, 32)
    latents = load_file(out / "latents.safetensors")
    assert latents["clips"].shape == (10, 1, 16, 2, 1, 1)
    assert latents["images"].shape == (10, 1, 16, 1, 1, 1)
    prompt = training_scenes()[0].prompt
    video = pipe(prompt, seed=0, num_inference_steps=2, progress=False)
    assert video.frames.shape == (1, 8, 32, 32, 3)

    clips = tiny._statistics_clips(config)
    with torch.no_grad():
        std = pipe.vae.encode(clips).std(dim=(0, 2, 3, 4))
    torch.testing.assert_close(std, torch.ones_like(std), rtol=0, atol=0.05)
