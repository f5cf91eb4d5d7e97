"""A new model that starts from a finished one: its words, its weights, its latents."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from opensora_fast.models import CheckpointError
from opensora_fast.train.autoencoder import AutoencoderStage
from opensora_fast.train.clips import ClipSource
from opensora_fast.train.config import RunConfig, TextConfig
from opensora_fast.train.diffusion import ADAMW_PREFIXES, DiffusionData, DiffusionStage
from opensora_fast.train.distillation import Teacher
from opensora_fast.train.parent import Parent
from opensora_fast.train.presets import tiny_hc
from opensora_fast.train.shapes import training_scenes
from opensora_fast.train.text_encoders import TextStage, tokenize


class Means(nn.Module):
    """Stands for a causal 4x8x8 autoencoder: latents are the means of what they cover."""

    spatial_compression_ratio = 8
    config = dataclasses.make_dataclass("Config", [("latent_channels", int, 3)])()

    def encode(self, x: Tensor, sample_posterior: bool) -> Tensor:
        assert not sample_posterior
        first, rest = x[:, :, :1], x[:, :, 1:]
        parts = [first, *([F.avg_pool3d(rest, (4, 1, 1))] if rest.shape[2] else [])]
        return F.avg_pool3d(torch.cat(parts, dim=2), (1, 8, 8))


@pytest.fixture(scope="module")
def tiny() -> Parent:
    return Parent("tiny")


def data_like(model: Any, latent: tuple[int, int, int]) -> DiffusionData:
    """Random latents and text for a transformer."""
    g, scenes = torch.Generator().manual_seed(0), len(training_scenes())
    clips = torch.randn(1, 1, model.latent_channels, *latent, generator=g).half()
    return DiffusionData(
        clips=clips.expand(scenes, -1, -1, -1, -1, -1),
        images=clips[:, :, :, :1].expand(scenes, -1, -1, -1, -1, -1),
        txt=torch.randn(1, 4, model.context_in_dim, generator=g).expand(scenes + 1, -1, -1),
        vec=torch.randn(1, model.vec_in_dim, generator=g).expand(scenes + 1, -1),
    )


@pytest.mark.parametrize("num_frames", [1, 8])
def test_a_token_of_the_teacher_shows_what_the_latent_shows(num_frames: int) -> None:
    teacher = Teacher(Means(), patch_size=2, ratio=32)  # type: ignore[arg-type]
    x = torch.randn(2, 3, num_frames, 64, 96, generator=torch.Generator().manual_seed(0))
    tokens = teacher(x)
    frames = min(num_frames, 4)
    assert tokens.shape == (2, 12, max(1, num_frames // 4), 2, 3)
    means = F.avg_pool3d(x, (frames, 16, 16))  # the four squares of a token, each of 16 pixels
    squares = tokens.unflatten(1, (3, 2, 2)).permute(0, 1, 4, 5, 2, 6, 3).reshape(means.shape)
    torch.testing.assert_close(squares, means)


def test_a_student_with_denser_latents_is_refused() -> None:
    with pytest.raises(ValueError, match="a token of the teacher covers 16 pixels"):
        Teacher(Means(), patch_size=2, ratio=8)  # type: ignore[arg-type]


def test_distillation_draws_latents_to_the_tokens(
    hc_config: RunConfig, hc_source: ClipSource, tiny: Parent
) -> None:
    """With a map between the two, because they have unlike numbers of channels."""
    base = hc_config.autoencoder
    config = dataclasses.replace(
        base,
        phases=(dataclasses.replace(base.phases[0], num_steps=6),),
        teacher="tiny",
        distill_weight=10.0,
    )
    teacher = Teacher(tiny.autoencoder(), 2, config.model.spatial_compression_ratio)
    stage = AutoencoderStage(config, hc_source, 0, torch.float32, teacher)
    assert stage.parameters["projection.weight"].shape == (64, 16, 1, 1, 1)
    frames = torch.from_numpy(hc_source.rendered[:8, :1])
    x = frames.permute(0, 4, 1, 2, 3) / 127.5 - 1

    def distance() -> float:
        with torch.no_grad():
            return stage._loss(x, config.phases[0], torch.Generator().manual_seed(0))[1]["distill"]

    before = distance()
    for step in range(stage.num_steps):
        stage.step(step)
    assert distance() < 0.95 * before


def test_latents_like_the_tokens_need_no_map(hc_config: RunConfig, hc_source: ClipSource) -> None:
    teacher = Teacher(Means(), patch_size=2, ratio=32)  # type: ignore[arg-type]
    teacher.channels = 16
    config = dataclasses.replace(hc_config.autoencoder, teacher="tiny", distill_weight=1.0)
    stage = AutoencoderStage(config, hc_source, 0, torch.float32, teacher)
    assert not any(name.startswith("projection") for name in stage.parameters)


@pytest.mark.parametrize("outer", [False, True])
def test_the_twin_starts_from_the_tiny_model(tiny: Parent, outer: bool) -> None:
    config = dataclasses.replace(tiny_hc().diffusion, init_outer=outer)
    stage = DiffusionStage(config, data_like(config.model, (4, 4, 4)), 0, torch.float32)
    parent = tiny.transformer().state_dict()
    for name, p in stage.parameters.items():
        # The condition is narrower: its mask has one channel, where four were packed.
        fits = not name.startswith(ADAMW_PREFIXES) or (outer and name != "cond_in.weight")
        same = p.shape == parent[name].shape and torch.equal(p, parent[name])
        assert same is fits, name
        average = stage.ema.averages[name]
        assert torch.equal(average, p), name


def test_a_model_of_other_sizes_gives_nothing(
    config: RunConfig, diffusion_data: DiffusionData
) -> None:
    strange = dataclasses.replace(
        config.diffusion,
        model=dataclasses.replace(config.diffusion.model, depth=0, depth_single_blocks=0),
        init_from="tiny",
    )
    with pytest.raises(ValueError, match="no weight of 'tiny' fits"):
        DiffusionStage(strange, diffusion_data, 0, torch.float32)


def test_the_tiny_models_words_are_taken_over(tiny: Parent) -> None:
    stage = TextStage(TextConfig(), 0)
    stage.adopt(tiny)
    t5, clip = tiny.text_encoders()
    ids = tokenize(["a small red circle"], 72)
    states, vector = stage.encode(ids)
    assert torch.equal(states, t5(input_ids=ids).last_hidden_state)
    assert torch.equal(vector, clip(input_ids=ids).pooler_output)


def test_encoders_of_other_sizes_are_refused(config: RunConfig, tiny: Parent) -> None:
    with pytest.raises(ValueError, match="have other sizes"):
        TextStage(config.text, 0).adopt(tiny)


def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is no pipeline folder"):
        Parent("huge")
    index = {"vae": {"class": "VideoDCAE", "config": {}, "file": "vae.safetensors"}}
    (tmp_path / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match="a HunyuanVAE is needed, it holds a VideoDCAE"):
        Parent(str(tmp_path)).autoencoder()
