"""What training has to know of a class of autoencoders."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True, slots=True)
class Reconstruction:
    """A clip that went through an autoencoder.

    Args:
        pixels: what came out, as the clip went in.
        latents: on the way, ``[B, C, t, h, w]``; without the noise that was added to them.
        penalty: what the latents cost, a scalar.
    """

    pixels: Tensor
    latents: Tensor
    penalty: Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class Family:
    """A class of autoencoders, to the stages that train it.

    Args:
        build: makes the network of a configuration.
        initialize: gives its weights the values to start from.
        reconstruct: runs network, clip and noise level forth and back, with a generator.
        normalize: makes the latents of a trained network standard on clips, in place.
        image_tap: of a kernel with so many temporal taps, the one that sees an image; the others
            see what is put around it.
        adamw_prefixes: beginnings of the names that are AdamW's: the first and last convolutions
            map between pixels, latents and features, are not square, and so not Muon's.
        encoder_prefixes: beginnings of the names of the encoder's parameters.
    """

    build: Callable[[Any], nn.Module]
    initialize: Callable[[Any, torch.Generator], None]
    reconstruct: Callable[[Any, Tensor, float, torch.Generator], Reconstruction]
    normalize: Callable[[Any, Tensor], None]
    image_tap: Callable[[int], int]
    adamw_prefixes: tuple[str, ...]
    encoder_prefixes: tuple[str, ...]

    def only_image_tap(self, values: Tensor) -> None:
        """Set all other taps of a kernel, or of its gradient, to zero."""
        if values.dim() == 5 and values.shape[2] > 1:
            tap = self.image_tap(values.shape[2])
            values[:, :, :tap] = 0.0
            values[:, :, tap + 1 :] = 0.0


def channel_statistics(model: Any, clips: Tensor, batch_size: int = 4) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation ``[C]`` of the latents of clips ``[N, 3, T, H, W]``."""
    latents = [model.encode(part, sample_posterior=False) for part in clips.split(batch_size)]
    z = torch.cat(latents)
    return z.mean(dim=(0, 2, 3, 4)), z.std(dim=(0, 2, 3, 4))
