"""The pictures and clips that a video is to begin with, end with or continue."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch

from opensora_fast.models.frame_grid import FrameGrid
from opensora_fast.sampling_config import SamplingConfig
from opensora_fast.video import Frames, over_white, read_image, read_video, resize_crop

# A path, uint8 pixels [H, W, 3], or anything NumPy turns into them (a Pillow image).
Picture: TypeAlias = "str | Path | Frames | Any"

# Frames of a clip that the released models were trained to continue.
_MAX_CLIP_FRAMES = 33


@dataclass(frozen=True, slots=True)
class References:
    """How a video is conditioned, and on which pixels `[3, T, H, W]` in [-1, 1]."""

    cond_type: str
    pixels: tuple[torch.Tensor, ...]


def read_references(
    image: Picture | None,
    last_image: Picture | None,
    video: str | Path | Frames | None,
    config: SamplingConfig,
    grid: FrameGrid,
) -> References:
    """Read what was given, scaled to cover the video's size and cut at the centre.

    Args:
        image: first frame.
        last_image: last frame.
        video: clip to continue; its first 33 frames are used, fewer (4 k + 1) if it is shorter or
            if no new frame would be left.
        config: size and length of the video.
        grid: numbers of frames that the autoencoder gives back.

    Returns:
        The kind of conditioning and its pixels.

    Raises:
        ValueError: they contradict each other, or are no images or clips.
        FileNotFoundError: a file is missing.
    """
    if video is not None and (image is not None or last_image is not None):
        raise ValueError("give either video, or image and last_image")
    given = [picture for picture in (image, last_image) if picture is not None]
    if (given or video is not None) and config.num_frames == 1:
        raise ValueError("a single frame cannot follow a reference: ask for more num_frames")
    size = config.height, config.width
    if video is not None:
        frames = _clip(video)
        room = config.num_frames - grid.ratio
        longest = min(len(frames), room, _MAX_CLIP_FRAMES)
        frames = frames[: grid.at_most(longest)]
        return References("v2v_head", (resize_crop(frames, *size, resample="bilinear"),))
    pixels = tuple(resize_crop(_picture(p)[None], *size, resample="bicubic") for p in given)
    kind = "t2v" if not given else "i2v_loop" if len(given) == 2 else "i2v_head"
    return References("i2v_tail" if image is None and given else kind, pixels)


def _picture(source: Picture) -> Frames:
    if isinstance(source, (str, Path)):
        return read_image(source)
    if hasattr(source, "convert"):  # a Pillow image of any mode
        return over_white(np.asarray(source.convert("RGBA")))
    return _pixels(np.asarray(source), 3, "an image must be a path or uint8 [H, W, 3]")


def _clip(source: str | Path | Frames) -> Frames:
    if isinstance(source, (str, Path)):
        return read_video(source, max_frames=_MAX_CLIP_FRAMES).frames
    return _pixels(np.asarray(source), 4, "a video must be a path or uint8 [T, H, W, 3]")


def _pixels(array: Any, ndim: int, expected: str) -> Frames:
    if array.dtype != np.uint8 or array.ndim != ndim or array.shape[-1] != 3 or not array.size:
        raise ValueError(f"{expected}, got {array.dtype} {list(array.shape)}")
    pixels: Frames = array
    return pixels
