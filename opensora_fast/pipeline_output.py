"""What a pipeline returns, and how it is saved."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from opensora_fast.latents import SUFFIXES as LATENT_SUFFIXES
from opensora_fast.latents import VideoLatents
from opensora_fast.output_path import check_output
from opensora_fast.sampling_config import SamplingConfig
from opensora_fast.video import (
    IMAGE_SUFFIXES,
    VIDEO_SUFFIXES,
    Frames,
    to_frames,
    write_image,
    write_video,
)

OutputType = Literal["np", "pt", "latent"]


@dataclass(frozen=True, slots=True)
class VideoPipelineOutput:
    """Videos, and what made them.

    Args:
        frames: uint8 `[B, T, H, W, 3]` ("np"), pixels `[B, 3, T, H, W]` ("pt") or latents
            `[B, C, t, h, w]` ("latent").
        config: every value the videos were sampled with.
        seed: video i was drawn with `seed + i`.
        timings: seconds by stage: text, encode (with references only), denoise, decode.
        output_type: which of the three `frames` is.
    """

    frames: Any
    config: SamplingConfig
    seed: int
    timings: dict[str, float]
    output_type: OutputType = "np"

    @property
    def fps(self) -> float:
        """Frames per second."""
        return self.config.fps

    def save(self, path: str | Path) -> list[Path]:
        """Write the videos; several get `-0`, `-1`, ... before the extension.

        Args:
            path: .mp4, .mov or .mkv; .png or .jpg for single frames; .safetensors for latents
                (one file for all). Missing folders are made.

        Returns:
            The files written, each of them whole.

        Raises:
            ValueError: the extension does not fit.
            OSError: the folder cannot be written.
        """
        config = self.config
        path = check_output(path, output_suffixes(config.num_frames, self.output_type))
        if self.output_type == "latent":
            size = (config.num_frames, config.height, config.width)
            return [VideoLatents(self.frames, *size, config.fps).save(path)]
        paths = numbered(path, len(self.frames))
        for target, video in zip(paths, self.frames, strict=True):
            frames = to_frames(video) if isinstance(video, torch.Tensor) else video
            write_frames(target, frames, config.fps)
        return paths


def write_frames(path: Path, frames: Frames, fps: float) -> None:
    """Write frames as a video, or the first as a picture if the extension says so."""
    if path.suffix.lower() in IMAGE_SUFFIXES:
        write_image(path, frames[0])
    else:
        write_video(path, frames, fps)


def output_suffixes(num_frames: int, output_type: OutputType = "np") -> tuple[str, ...]:
    """The file extensions that a result can be saved with."""
    if output_type == "latent":
        return LATENT_SUFFIXES
    return VIDEO_SUFFIXES if num_frames > 1 else (*IMAGE_SUFFIXES, *VIDEO_SUFFIXES)


def numbered(path: Path, count: int) -> list[Path]:
    """`path` itself for one file; for several, with -0, -1, ... before the extension."""
    if count == 1:
        return [path]
    return [path.with_name(f"{path.stem}-{i}{path.suffix}") for i in range(count)]
