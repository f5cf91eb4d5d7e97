"""Latents of videos as files: one safetensors file with the video's true size and rate."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import torch

from opensora_fast.models.checkpoint import CheckpointError, read_metadata, save_tensors
from opensora_fast.output_path import check_output

SUFFIXES = (".safetensors",)
FORMAT = "opensora-fast latents 1"
_KEY = "latents"


@dataclass(frozen=True, slots=True)
class VideoLatents:
    """Latents `[B, C, t, h, w]`, and what decoding needs to give back the original video.

    Args:
        latents: as the diffusion model sees them (scaled).
        num_frames: frames T of the video; what the autoencoder padded beyond is cut.
        height: H of the video in pixels, likewise.
        width: W of the video in pixels, likewise.
        fps: frames per second.
    """

    latents: torch.Tensor
    num_frames: int
    height: int
    width: int
    fps: float

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write to a `.safetensors` file, whole or not at all; missing folders are made.

        Args:
            path: ends in .safetensors.

        Returns:
            The path.

        Raises:
            ValueError: wrong extension.
            OSError: the folder cannot be written.
        """
        path = check_output(Path(path), SUFFIXES)
        metadata = {
            "opensora_fast": FORMAT,
            "num_frames": str(self.num_frames),
            "height": str(self.height),
            "width": str(self.width),
            "fps": repr(float(self.fps)),
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        save_tensors({_KEY: self.latents.cpu()}, path, metadata)
        return path

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> VideoLatents:
        """Read what `save` wrote.

        Args:
            path: of the file.

        Returns:
            The latents, on the CPU.

        Raises:
            FileNotFoundError: there is no such file.
            CheckpointError: it is no safetensors file, or holds no latents of a video.
        """
        from safetensors import safe_open

        path = Path(path)
        if not path.exists():
            raise FileNotFoundError(f"cannot read {path}: there is no such file")
        if path.is_dir():
            raise CheckpointError(f"cannot read {path}: it is a folder, a latents file is expected")
        metadata = read_metadata(path)
        if metadata.get("opensora_fast") != FORMAT:
            raise CheckpointError(
                f"{path} holds no video latents; `opensora-fast encode` makes them"
            )
        try:
            with safe_open(str(path), framework="pt") as stored:
                latents = stored.get_tensor(_KEY)
            num_frames, height, width = (
                int(metadata[name]) for name in ("num_frames", "height", "width")
            )
            fps = float(metadata["fps"])
        except Exception as error:
            raise CheckpointError(f"{path} is damaged: {error}") from error
        if latents.dim() != 5 or min(num_frames, height, width) < 1 or not 0 < fps <= 1000:
            raise CheckpointError(
                f"{path} is damaged: latents {list(latents.shape)}, "
                f"{num_frames} frames of {width}x{height} at {fps} per second"
            )
        return cls(latents, num_frames, height, width, fps)
