"""The run that makes the shipped model: text encoders, autoencoder, latents, transformer, folder.

Every part goes on from its last checkpoint, so the run can be stopped and started again at any
time.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from opensora_fast.kernels.atomic import replacing

from .autoencoder import AutoencoderStage
from .clips import ClipSource, real_clip_paths, scene_clips
from .config import RunConfig
from .diffusion import DiffusionData, DiffusionStage
from .distillation import Teacher
from .export import export_pipeline
from .latents import (
    NUM_CLIPS_FOR_STATISTICS,
    VideoAutoencoder,
    cache_latents,
    normalize_latents,
)
from .loop import Stage, restore_stage, run_stage
from .optim import Ema
from .parent import Parent
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
        stages: any of `STAGES`; what they need of a stage that is left out is read from its
            checkpoint.

    Returns:
        The pipeline folder, which exists once "export" has run.

    Raises:
        ValueError: an unknown stage, or one that needs a checkpoint which is not there.
    """
    check_stages(stages)
    out = Path(config.out)
    with replacing(out / "config.json") as temporary:
        temporary.write_text(json.dumps(dataclasses.asdict(config), indent=2) + "\n", "utf-8")
    parts = _Parts(config, out, frozenset(stages))
    steps: dict[str, Callable[[], object]] = {
        "text": lambda: parts.text,
        "autoencoder": lambda: parts.autoencoder,
        "latents": lambda: parts.latents,
        "diffusion": lambda: parts.diffusion,
        "export": lambda: _export(parts),
    }
    for name in STAGES:
        if name in stages:
            steps[name]()
    return out / "pipeline"


class _Parts:
    """What the stages make: each part is trained, or read, when it is first asked for.

    Args:
        config: of the run.
        out: its folder.
        stages: those that are trained; the others are read from their checkpoints.
    """

    def __init__(self, config: RunConfig, out: Path, stages: frozenset[str]) -> None:
        self.config, self.out, self.stages = config, out, stages

    @cached_property
    def text(self) -> TextStage:
        """The text encoders."""
        stage = TextStage(self.config.text, self.config.seed)
        if self.config.text.init_from:
            stage.adopt(Parent(self.config.text.init_from))
        else:
            self._advance(stage)
        return stage

    @cached_property
    def autoencoder(self) -> VideoAutoencoder:
        """The autoencoder, whose latents have any mean and variance."""
        config, run = self.config.autoencoder, "autoencoder" in self.stages
        paths = real_clip_paths(self.config.real_clips) if run and config.real_share else []
        source = ClipSource(
            self.config.num_frames,
            config.crop_size,
            [read_frames(path) for path in paths],
            self.config.seed,
            config.clips_per_scene if run else 0,
        )
        teacher = None
        if config.distill_weight:
            parent = Parent(config.teacher)
            patch_size = parent.transformer().config.patch_size
            ratio = config.model.spatial_compression_ratio
            teacher = Teacher(parent.autoencoder(), patch_size, ratio)
        precision = PRECISIONS[self.config.autoencoder_precision]
        stage = AutoencoderStage(config, source, self.config.seed, precision, teacher)
        self._advance(stage)
        model: VideoAutoencoder = stage.model
        return model

    @cached_property
    def standard_autoencoder(self) -> VideoAutoencoder:
        """The same network, changed so that its latents are standard."""
        normalize_latents(self.autoencoder, _statistics_clips(self.config))
        return self.autoencoder

    @cached_property
    def latents(self) -> dict[str, torch.Tensor]:
        """Standard latents of the training clips."""
        return cache_latents(
            self.standard_autoencoder,
            training_scenes(),
            self.out / "latents.safetensors",
            clips_per_scene=self.config.diffusion.clips_per_scene,
            num_frames=self.config.num_frames,
            size=self.config.size,
            seed=self.config.seed,
        )

    @cached_property
    def diffusion(self) -> DiffusionStage:
        """The transformer."""
        data = _diffusion_data(self.text, self.latents)
        precision = PRECISIONS[self.config.transformer_precision]
        stage = DiffusionStage(self.config.diffusion, data, self.config.seed, precision)
        self._advance(stage)
        return stage

    def _advance(self, stage: Stage) -> None:
        """Train a stage to its end, or read what it reached; then take the averaged weights."""
        if stage.name in self.stages:
            run_stage(stage, self.out, checkpoint_s=self.config.checkpoint_s)
        else:
            restore_stage(stage, self.out)
        if stage.ema is not None:
            _use_averages(stage.parameters, stage.ema)


def _export(parts: _Parts) -> None:
    export_pipeline(
        parts.out / "pipeline",
        parts.config,
        vae=parts.standard_autoencoder,
        transformer=parts.diffusion.model,
        t5=parts.text.t5,
        clip=parts.text.clip,
    )


@torch.no_grad()
def _use_averages(parameters: dict[str, torch.Tensor], ema: Ema) -> None:
    for name, value in ema.averages.items():
        parameters[name].copy_(value)


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
    import av  # needed for real clips only

    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])
