"""The run that makes the shipped model: text encoders, autoencoder, latents, transformer, folder.

Every part goes on from its last checkpoint, so the run can be stopped and started again at any
time.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

import av
import numpy as np
import torch

from opensora_fast.models.atomic import replacing

from .autoencoder import AutoencoderStage
from .clips import ClipSource, real_clip_paths, scene_clips
from .config import RunConfig
from .diffusion import DiffusionData, DiffusionStage
from .export import export_pipeline
from .latents import NUM_CLIPS_FOR_STATISTICS, cache_latents, normalize_latents
from .loop import Stage, restore_stage, run_stage
from .optim import Ema
from .shapes import to_pixels, training_scenes
from .text_encoders import TextStage, tokenize

PRECISIONS = {"bf16": torch.bfloat16, "fp32": torch.float32}
STAGES = ("text", "autoencoder", "latents", "diffusion", "export")


def check_stages(stages: Sequence[str]) -> None:
    """Raise ValueError unless every name is one of `STAGES`."""
    for name in stages:
        if name not in STAGES:
            raise ValueError(f"unknown stage {name!r}; there are {', '.join(STAGES)}")


def train(config: RunConfig, stages: Sequence[str] = STAGES) -> Path:
    """Run the named stages in order.

    Args:
        config: of the run.
        stages: any of `STAGES`; an earlier stage that is left out is read from its checkpoint.

    Returns:
        The pipeline folder, which exists once "export" has run.

    Raises:
        ValueError: an unknown stage, or one that needs a checkpoint which is not there.
    """
    check_stages(stages)
    out = Path(config.out)
    with replacing(out / "config.json") as temporary:
        temporary.write_text(json.dumps(dataclasses.asdict(config), indent=2) + "\n", "utf-8")
    text = TextStage(config.text, config.seed)
    _advance(text, out, config, run="text" in stages)
    if set(stages) <= {"text"}:
        return out / "pipeline"
    autoencoder = _autoencoder(config, out, run="autoencoder" in stages)
    if set(stages) <= {"text", "autoencoder"}:
        return out / "pipeline"
    normalize_latents(autoencoder.model, _statistics_clips(config))
    latents = cache_latents(
        autoencoder.model,
        training_scenes(),
        out / "latents.safetensors",
        clips_per_scene=config.diffusion.clips_per_scene,
        num_frames=config.num_frames,
        size=config.size,
        seed=config.seed,
    )
    if set(stages) <= {"text", "autoencoder", "latents"}:
        return out / "pipeline"
    data = _diffusion_data(text, latents)
    diffusion = DiffusionStage(
        config.diffusion, data, config.seed, PRECISIONS[config.transformer_precision]
    )
    _advance(diffusion, out, config, run="diffusion" in stages)
    if "export" in stages:
        export_pipeline(
            out / "pipeline",
            config,
            vae=autoencoder.model,
            transformer=diffusion.model,
            t5=text.t5,
            clip=text.clip,
        )
    return out / "pipeline"


def _advance(stage: Stage, out: Path, config: RunConfig, *, run: bool) -> None:
    """Train a stage to its end, or read what it reached; then take the averaged weights."""
    if run:
        run_stage(stage, out, checkpoint_s=config.checkpoint_s)
    else:
        restore_stage(stage, out)
    if stage.ema is not None:
        _use_averages(stage.parameters, stage.ema)


@torch.no_grad()
def _use_averages(parameters: dict[str, torch.Tensor], ema: Ema) -> None:
    for name, value in ema.averages.items():
        parameters[name].copy_(value)


def _autoencoder(config: RunConfig, out: Path, *, run: bool) -> AutoencoderStage:
    real = [read_frames(path) for path in real_clip_paths(config.real_clips)] if run else []
    rounds = 2 if run else 0
    source = ClipSource(config.num_frames, config.autoencoder.crop_size, real, config.seed, rounds)
    stage = AutoencoderStage(
        config.autoencoder, source, config.seed, PRECISIONS[config.autoencoder_precision]
    )
    _advance(stage, out, config, run=run)
    return stage


def _statistics_clips(config: RunConfig) -> torch.Tensor:
    every = max(1, len(training_scenes()) // NUM_CLIPS_FOR_STATISTICS)
    scenes = training_scenes()[::every]
    return to_pixels(scene_clips(scenes, config.num_frames, config.size, config.seed))


@torch.no_grad()
def _diffusion_data(text: TextStage, latents: dict[str, torch.Tensor]) -> DiffusionData:
    sentences = [scene.prompt for scene in training_scenes()] + [""]
    ids = tokenize(sentences, text.config.max_length)
    states, vectors = zip(*(text.encode(part) for part in ids.split(64)), strict=True)
    return DiffusionData(
        clips=latents["clips"],
        images=latents["images"],
        txt=torch.cat(states),
        vec=torch.cat(vectors),
    )


def read_frames(path: Path) -> np.ndarray:
    """Decode a video to uint8 ``[T, H, W, 3]``."""
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])
