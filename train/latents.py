"""Latents of rendered clips, computed once, of an autoencoder scaled to make them standard.

Standard: zero mean and unit variance in every channel.
"""

from __future__ import annotations

from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from rich.progress import track
from safetensors.torch import load_file
from torch import Tensor

from opensora_fast.models import HunyuanVAE, VideoDCAE
from opensora_fast.models.checkpoint import save_tensors

from .autoencoder import family_of
from .shapes import Scene, render, to_pixels

VideoAutoencoder: TypeAlias = HunyuanVAE | VideoDCAE
NUM_CLIPS_FOR_STATISTICS = 200


def normalize_latents(model: VideoAutoencoder, clips: Tensor) -> None:
    """Change an autoencoder inside so that its latents on clips are standard, in place.

    Args:
        model: trained, without a scale of its own.
        clips: ``[N, 3, T, H, W]``, what the statistics are taken over.
    """
    family_of(model.config).normalize(model, clips)


@torch.no_grad()
def cache_latents(
    model: VideoAutoencoder,
    scenes: list[Scene],
    path: Path,
    *,
    clips_per_scene: int,
    num_frames: int,
    size: int,
    seed: int,
) -> dict[str, Tensor]:
    """Encode `clips_per_scene` clips of every scene, and their first frames alone.

    What is in `path` already is read instead.

    Returns:
        ``clips`` fp16 ``[S, N, C, t, h, w]`` and ``images`` fp16 ``[S, N, C, 1, h, w]``: posterior
        means. The image is encoded by itself, as it is when a user gives one, because the
        autoencoder's norms span all frames.
    """
    if path.exists():
        return load_file(path)
    found: dict[str, list[Tensor]] = {"clips": [], "images": []}
    for i, scene in enumerate(track(scenes, "latents")):
        rngs = [np.random.default_rng((seed, 3, i, n)) for n in range(clips_per_scene)]
        x = to_pixels(
            np.stack([render(scene, rng, num_frames=num_frames, size=size) for rng in rngs])
        )
        for name, part in (("clips", x), ("images", x[:, :, :1])):
            found[name].append(model.encode(part, sample_posterior=False).half())
    latents = {name: torch.stack(parts) for name, parts in found.items()}
    save_tensors(latents, path)
    return latents
