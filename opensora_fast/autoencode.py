"""Videos of any size through an autoencoder that accepts only some sizes: padded, then cut."""

from __future__ import annotations

import numpy as np
import torch

from opensora_fast.latents import VideoLatents
from opensora_fast.models import HunyuanVAE
from opensora_fast.video import Frames, Video, resize_crop, to_frames


def encode_video(
    vae: HunyuanVAE,
    video: Video,
    *,
    sample_posterior: bool = False,
    generator: torch.Generator | None = None,
) -> VideoLatents:
    """Encode a video of any length and size.

    The last frame, row and column are repeated up to the next 4 k + 1 frames and multiple of 8
    pixels; the true size is kept beside the latents, so that `decode_video` gives it back.

    Args:
        vae: the autoencoder; its parameters' device and dtype are used.
        video: frames `[T, H, W, 3]` uint8 with their rate.
        sample_posterior: draw from the posterior instead of taking its mean.
        generator: source of the draw.

    Returns:
        Latents `[1, C, t, h, w]`.
    """
    num_frames, height, width = video.frames.shape[:3]
    space, time = vae.spatial_compression_ratio, vae.time_compression_ratio
    padding = ((0, (1 - num_frames) % time), (0, -height % space), (0, -width % space), (0, 0))
    padded: Frames = np.pad(video.frames, padding, mode="edge")
    pixels = resize_crop(padded, *padded.shape[1:3], resample="bilinear")
    parameter = next(vae.parameters())
    x = pixels[None].to(parameter.device, parameter.dtype)
    with torch.inference_mode():
        latents = vae.encode(x, sample_posterior=sample_posterior, generator=generator)
    return VideoLatents(latents, num_frames, height, width, video.fps)


def decode_video(vae: HunyuanVAE, stored: VideoLatents, index: int = 0) -> Video:
    """Decode one video of a latents file and cut it to its true size.

    Args:
        vae: the autoencoder that made the latents.
        stored: latents with the size of the video.
        index: which one of the batch.

    Returns:
        The video.

    Raises:
        ValueError: the latents do not fit the autoencoder.
    """
    z = stored.latents[index : index + 1]
    size = stored.num_frames, stored.height, stored.width
    expected = (1, vae.z_channels, *vae.latent_size(*size))
    if tuple(z.shape) != expected:
        raise ValueError(
            f"the latents {list(z.shape)} do not fit this model, which makes {list(expected)} "
            f"of {size[0]} frames of {size[2]}x{size[1]}"
        )
    parameter = next(vae.parameters())
    with torch.inference_mode():
        pixels = vae.decode(z.to(parameter.device, parameter.dtype))[0]
    frames = to_frames(pixels[:, : size[0], : size[1], : size[2]])
    return Video(frames, stored.fps)
