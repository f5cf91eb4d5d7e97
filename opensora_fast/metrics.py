"""How close two videos are, and what tiles and jitter do to one: numbers on uint8 frames."""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F

from opensora_fast.video import Frames

_WINDOW, _SIGMA = 11, 1.5
_C1, _C2 = 0.01**2, 0.03**2


def psnr(a: Frames, b: Frames) -> float:
    """Peak signal-to-noise ratio over all pixels: `10 log10(255**2 / mean((a - b)**2))`.

    Args:
        a: frames `[T, H, W, 3]` uint8.
        b: likewise, of the same shape.

    Returns:
        Decibels; infinity for equal videos.

    Numerics:
        fp64.

    Raises:
        ValueError: the shapes differ.
    """
    _check(a, b, "psnr")
    # Frame by frame: the whole difference in fp64 would be eight times the video.
    errors = [
        np.square(x.astype(np.float64) - y.astype(np.float64)).mean()
        for x, y in zip(a, b, strict=True)
    ]
    mse = float(np.mean(errors))
    return math.inf if mse == 0 else 10 * math.log10(255.0**2 / mse)


def ssim(a: Frames, b: Frames) -> float:
    """Structural similarity, the mean over frames, channels and window positions.

    Args:
        a: frames `[T, H, W, 3]` uint8, at least 11 pixels a side.
        b: likewise, of the same shape.

    Returns:
        1 for equal videos, about 0 for unrelated ones.

    Numerics:
        fp64, Gaussian window of 11 pixels with sigma 1.5, positions inside the frame only.

    Raises:
        ValueError: the shapes differ, or the frames are smaller than the window.

    Source:
        Wang et al. 2004, "Image quality assessment: from error visibility to structural
        similarity", section III-B, per colour channel.
    """
    _check(a, b, "ssim")
    if min(a.shape[1:3]) < _WINDOW:
        raise ValueError(f"ssim needs at least {_WINDOW} pixels a side, got {list(a.shape[1:3])}")
    return float(np.mean([_ssim_frame(x, y) for x, y in zip(a, b, strict=True)]))


def seam(frames: Frames, every: int) -> float:
    """Step across the borders of tiles, over the step between neighbours elsewhere.

    `mean |x[i] - x[i-1]|` over rows and columns i that are multiples of `every`, divided by the
    same mean over all others.

    Args:
        frames: `[T, H, W, 3]` uint8.
        every: pixels from one border to the next.

    Returns:
        About 1 where no border shows; nan for a video without any step.

    Numerics:
        fp64.

    Raises:
        ValueError: the video has no such border, or nothing else.
    """
    rows, columns = frames.shape[1:3]
    if not 1 < every < max(rows, columns):
        raise ValueError(f"seam: {columns}x{rows} pixels have no borders every {every} pixels")
    across, elsewhere = [], []
    for axis in (1, 2):
        # Frame by frame: the differences of all of them would be eight times the video.
        steps = np.mean(
            [
                np.abs(np.diff(x.astype(np.float64), axis=axis - 1)).mean((2 - axis, 2))
                for x in frames
            ],
            axis=0,
        )
        border = (np.arange(len(steps)) + 1) % every == 0
        across.append(steps[border])
        elsewhere.append(steps[~border])
    rest = float(np.concatenate(elsewhere).mean())
    return float(np.concatenate(across).mean()) / rest if rest > 0 else math.nan


def flicker(frames: Frames) -> float:
    """Jitter in time: `mean |x[t-1] - 2 x[t] + x[t+1]| / 255`, zero for steady change.

    Args:
        frames: `[T, H, W, 3]` uint8, at least three frames.

    Returns:
        0 to 2.

    Numerics:
        fp64.

    Raises:
        ValueError: fewer than three frames.
    """
    if len(frames) < 3:
        raise ValueError(f"flicker needs at least 3 frames, got {len(frames)}")
    bends = [
        np.abs(before.astype(np.float64) - 2.0 * here + after).mean()
        for before, here, after in zip(frames, frames[1:], frames[2:], strict=False)
    ]
    return float(np.mean(bends)) / 255


def _ssim_frame(a: Frames, b: Frames) -> float:
    x, y = (torch.from_numpy(f).permute(2, 0, 1)[:, None].double() / 255 for f in (a, b))
    offsets = torch.arange(_WINDOW, dtype=torch.float64) - _WINDOW // 2
    bell = torch.exp(-(offsets**2) / (2 * _SIGMA**2))
    bell = bell / bell.sum()

    def blurred(image: torch.Tensor) -> torch.Tensor:
        return F.conv2d(F.conv2d(image, bell.view(1, 1, -1, 1)), bell.view(1, 1, 1, -1))

    mean_x, mean_y = blurred(x), blurred(y)
    # Values lie in [0, 1] and fp64 keeps 16 digits, so E[x^2] - E[x]^2 loses nothing that counts.
    var_x, var_y = blurred(x * x) - mean_x**2, blurred(y * y) - mean_y**2
    covariance = blurred(x * y) - mean_x * mean_y
    numerator = (2 * mean_x * mean_y + _C1) * (2 * covariance + _C2)
    denominator = (mean_x**2 + mean_y**2 + _C1) * (var_x + var_y + _C2)
    return float((numerator / denominator).mean())


def _check(a: Frames, b: Frames, name: str) -> None:
    if a.shape != b.shape or a.ndim != 4:
        raise ValueError(f"{name}: expected two videos [T, H, W, 3], got {a.shape} and {b.shape}")
