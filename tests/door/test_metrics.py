"""PSNR and SSIM against their definitions, and latents files."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from scipy.ndimage import correlate

from opensora_fast.latents import VideoLatents
from opensora_fast.metrics import flicker, psnr, seam, ssim
from opensora_fast.models import CheckpointError
from opensora_fast.video import Frames


def noise(*shape: int, seed: int = 0) -> Frames:
    return np.random.default_rng(seed).integers(0, 256, (*shape, 3), dtype=np.uint8)


def test_psnr_by_hand() -> None:
    a = np.zeros((2, 4, 4, 3), np.uint8)
    assert psnr(a, a) == math.inf
    assert psnr(a, a + 1) == pytest.approx(20 * math.log10(255))
    assert psnr(a, a + 255) == pytest.approx(0.0)
    half = a.copy()
    half[1] = 2  # one frame of two is off by 2: mean square error 2
    assert psnr(a, half) == pytest.approx(10 * math.log10(255**2 / 2))


def ssim_by_definition(a: Frames, b: Frames) -> float:
    offsets = np.arange(11) - 5
    bell = np.exp(-(offsets**2) / (2 * 1.5**2))
    window = np.outer(bell, bell) / np.outer(bell, bell).sum()

    def mean(image: np.ndarray) -> np.ndarray:
        return correlate(image, window)[5:-5, 5:-5]

    values = []
    for x, y in zip(a.astype(float), b.astype(float), strict=True):
        for channel in range(3):
            p, q = x[..., channel], y[..., channel]
            mp, mq = mean(p), mean(q)
            vp, vq, vpq = mean(p * p) - mp**2, mean(q * q) - mq**2, mean(p * q) - mp * mq
            c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
            top = (2 * mp * mq + c1) * (2 * vpq + c2)
            values.append((top / ((mp**2 + mq**2 + c1) * (vp + vq + c2))).mean())
    return float(np.mean(values))


def test_ssim_is_its_definition() -> None:
    a = noise(2, 16, 21)
    b = (a.astype(int) * 3 // 4 + noise(2, 16, 21, seed=1) // 8).clip(0, 255).astype(np.uint8)
    assert ssim(a, a) == pytest.approx(1.0)
    assert ssim(a, b) == pytest.approx(ssim_by_definition(a, b), abs=1e-9)
    assert abs(ssim(a, noise(2, 16, 21, seed=2))) < 0.1


def test_what_cannot_be_compared() -> None:
    with pytest.raises(ValueError, match="psnr: expected two videos"):
        psnr(noise(1, 8, 8), noise(2, 8, 8))
    with pytest.raises(ValueError, match="at least 11 pixels"):
        ssim(noise(1, 8, 20), noise(1, 8, 20))


def test_latents_come_back_with_their_video_size(tmp_path: Path) -> None:
    stored = VideoLatents(torch.randn(2, 4, 3, 2, 5), 9, 15, 33, 23.976)
    back = VideoLatents.load(stored.save(tmp_path / "new" / "a.safetensors"))
    assert torch.equal(back.latents, stored.latents)
    assert (back.num_frames, back.height, back.width, back.fps) == (9, 15, 33, 23.976)
    with pytest.raises(ValueError, match=r"use \.safetensors"):
        stored.save(tmp_path / "a.pt")


def test_files_that_are_no_latents(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    with pytest.raises(FileNotFoundError, match="no such file"):
        VideoLatents.load(path)
    save_file({"latents": torch.zeros(1)}, path)
    with pytest.raises(CheckpointError, match="holds no video latents"):
        VideoLatents.load(path)
    good = VideoLatents(torch.zeros(1, 4, 1, 1, 1), 1, 8, 8, 8).save(path).read_bytes()
    path.write_bytes(good[:-5])
    with pytest.raises(CheckpointError, match="safetensors"):
        VideoLatents.load(path)
    header = {"opensora_fast": "opensora-fast latents 1", "num_frames": "0", "height": "8"}
    save_file({"latents": torch.zeros(1, 4, 1, 1, 1)}, path, header)
    with pytest.raises(CheckpointError, match="damaged"):
        VideoLatents.load(path)
    save_file(
        {"latents": torch.zeros(4)}, path, {**header, "num_frames": "1", "width": "8", "fps": "8"}
    )
    with pytest.raises(CheckpointError, match="damaged"):
        VideoLatents.load(path)


def test_a_step_at_the_borders_of_tiles_is_a_seam() -> None:
    smooth = np.broadcast_to(np.arange(24, dtype=np.uint8)[None, None, :, None], (2, 24, 24, 3))
    assert seam(smooth, 8) == pytest.approx(1.0)
    tiled = smooth.copy()
    tiled[:, :, 8:16] += 9  # two borders of three, in one of the two directions: steps of 10 and 8
    across, elsewhere = (10 + 8) / 2, 1.0
    # Rows have no steps at all, and as many borders as columns.
    assert seam(tiled, 8) == pytest.approx(across / elsewhere)
    assert math.isnan(seam(np.zeros((1, 24, 24, 3), np.uint8), 8))
    with pytest.raises(ValueError, match="no borders every 24"):
        seam(tiled, 24)


def test_steady_change_does_not_flicker() -> None:
    steady = np.stack([np.full((4, 4, 3), 10 * t, np.uint8) for t in range(5)])
    assert flicker(steady) == 0
    steady[2] += 5
    assert flicker(steady) == pytest.approx((5 + 10 + 5) / 3 / 255)
    with pytest.raises(ValueError, match="at least 3 frames, got 2"):
        flicker(steady[:2])
