"""Latents of rendered clips, computed once, of an autoencoder scaled to make them standard.

Standard: zero mean and unit variance in every channel.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from rich.progress import track
from safetensors.torch import load_file
from torch import Tensor, nn

from opensora_fast.models import HunyuanVAE
from opensora_fast.models.checkpoint import save_tensors

from .shapes import Scene, render, to_pixels

BATCH = 4
NUM_CLIPS_FOR_STATISTICS = 200


@torch.no_grad()
def normalize_latents(model: HunyuanVAE, clips: Tensor) -> None:
    """Fold each latent channel's mean and deviation into the 1x1x1 convolutions beside it; exact.

    Args:
        model: with ``scale_factor`` 1 and ``shift_factor`` 0; changed in place.
        clips: ``[N, 3, T, H, W]``, what the statistics are taken over.
    """
    means = torch.cat([model.encode(part, sample_posterior=False) for part in clips.split(BATCH)])
    mean, std = means.mean(dim=(0, 2, 3, 4)), means.std(dim=(0, 2, 3, 4))
    channels = len(mean)
    weight, bias = _weight_and_bias(model.quant_conv)
    weight[:channels] /= std.view(-1, 1, 1, 1, 1)
    bias[:channels] = (bias[:channels] - mean) / std
    bias[channels:] -= 2.0 * std.log()
    weight, bias = _weight_and_bias(model.post_quant_conv)
    bias += weight[:, :, 0, 0, 0] @ mean
    weight *= std.view(1, -1, 1, 1, 1)


def _weight_and_bias(conv: nn.Conv3d) -> tuple[Tensor, Tensor]:
    assert conv.bias is not None, "the convolutions next to the latent have biases"
    return conv.weight, conv.bias


@torch.no_grad()
def cache_latents(
    model: HunyuanVAE,
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
