"""Videos of any size through an autoencoder that accepts only some sizes: padded, then cut."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from opensora_fast.components import VideoAutoencoder, read_index
from opensora_fast.device import resolve_device, resolve_dtype
from opensora_fast.latents import VideoLatents
from opensora_fast.sampling_config import MAX_SIDE
from opensora_fast.video import Frames, Video, read_video, resize_crop, to_frames

# Above this many pixels in all frames together, "auto" works in tiles: 33 frames of 512x512.
_TILED_ABOVE = 33 * 512 * 512


def load_autoencoder(
    source: str | Path, device: str = "auto", dtype: str = "auto"
) -> tuple[VideoAutoencoder, torch.device]:
    """Load the video autoencoder of a pipeline, and say where it lives.

    Args:
        source: "tiny", a pipeline folder, or a Hugging Face id.
        device: see `resolve_device`.
        dtype: see `resolve_dtype`.

    Returns:
        The model and its device.
    """
    target = resolve_device(device)
    return read_index(source).load_vae(target, resolve_dtype(dtype, target)), target


def read_clip(
    path: str | Path, max_frames: int | None, height: int | None, width: int | None
) -> Video:
    """Read a clip, its first frames only and scaled and cropped if asked for.

    Args:
        path: of a video or image.
        max_frames: at most so many; None: all.
        height: of the result; None: the clip's own.
        width: of the result; None: the clip's own.

    Returns:
        The clip.

    Raises:
        ValueError: a number out of range, or the file cannot be read.
    """
    for name, value in (("max-frames", max_frames), ("height", height), ("width", width)):
        if value is not None and not 1 <= value <= MAX_SIDE:
            raise ValueError(f"{name} must be from 1 to {MAX_SIDE}, got {value}")
    video = read_video(path, max_frames=max_frames)
    size = height or video.frames.shape[1], width or video.frames.shape[2]
    if size == video.frames.shape[1:3]:
        return video
    return Video(to_frames(resize_crop(video.frames, *size, resample="bilinear")), video.fps)


def set_tiling(vae: VideoAutoencoder, tiling: str, shape: Sequence[int]) -> None:
    """Switch tiling on or off; "auto" tiles large clips and else leaves the model's own choice.

    Args:
        vae: the autoencoder.
        tiling: "on", "off" or "auto".
        shape: frames, rows and columns of the clip (what follows is not looked at).

    Raises:
        ValueError: another word.
    """
    if tiling not in ("on", "off", "auto"):
        raise ValueError(f"tiling must be on, off or auto, got {tiling!r}")
    if tiling != "auto" or shape[0] * shape[1] * shape[2] > _TILED_ABOVE:
        vae.use_spatial_tiling = vae.use_temporal_tiling = tiling != "off"


def encode_video(
    vae: VideoAutoencoder,
    video: Video,
    *,
    sample_posterior: bool = False,
    generator: torch.Generator | None = None,
    memory_budget: int | None = None,
) -> VideoLatents:
    """Encode a video of any length and size.

    The last frame, row and column are repeated up to the next size that the autoencoder gives back
    (4 k + 1 frames and a multiple of 8 pixels for the HunyuanVAE); the true size is kept beside the
    latents, so that `decode_video` gives it back.

    Args:
        vae: the autoencoder; its parameters' device and dtype are used.
        video: frames `[T, H, W, 3]` uint8 with their rate.
        sample_posterior: draw from the posterior instead of taking its mean.
        generator: source of the draw.
        memory_budget: bytes that the autoencoder may hold beside the pixels and its parameters,
            without tiles.

    Returns:
        Latents `[1, C, t, h, w]`.

    Raises:
        ValueError: the budget is too small; the least is named.
    """
    num_frames, height, width = video.frames.shape[:3]
    space, missing = vae.spatial_compression_ratio, vae.frame_grid.at_least(num_frames) - num_frames
    padding = ((0, missing), (0, -height % space), (0, -width % space), (0, 0))
    padded: Frames = np.pad(video.frames, padding, mode="edge")
    pixels = resize_crop(padded, padded.shape[1], padded.shape[2], resample="bilinear")
    parameter = next(vae.parameters())
    x = pixels[None].to(parameter.device, parameter.dtype)
    with torch.inference_mode():
        latents = vae.encode(
            x,
            sample_posterior=sample_posterior,
            generator=generator,
            memory_budget=memory_budget,
        )
    return VideoLatents(latents, num_frames, height, width, video.fps)


def decode_video(
    vae: VideoAutoencoder, stored: VideoLatents, index: int = 0, *, memory_budget: int | None = None
) -> Video:
    """Decode one video of a latents file and cut it to its true size.

    Args:
        vae: the autoencoder that made the latents.
        stored: latents with the size of the video.
        index: which one of the batch.
        memory_budget: bytes that the autoencoder may hold beside its parameters, without tiles.

    Returns:
        The video.

    Raises:
        ValueError: the latents do not fit the autoencoder, or the budget is too small (the least is
            named).
    """
    z = stored.latents[index : index + 1]
    size = stored.num_frames, stored.height, stored.width
    padded_frames = vae.frame_grid.at_least(size[0])
    expected = (1, vae.z_channels, *vae.latent_size(padded_frames, *size[1:]))
    if tuple(z.shape) != expected:
        raise ValueError(
            f"the latents {list(z.shape)} do not fit this model, which makes {list(expected)} "
            f"of {size[0]} frames of {size[2]}x{size[1]}"
        )
    parameter = next(vae.parameters())
    with torch.inference_mode():
        z = z.to(parameter.device, parameter.dtype)
        pixels = vae.decode(z, memory_budget=memory_budget)[0]
    frames = to_frames(pixels[:, : size[0], : size[1], : size[2]])
    return Video(frames, stored.fps)
