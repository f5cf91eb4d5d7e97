"""Latents of a shallow autoencoder as an example for those of a deep one."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from opensora_fast.models import HunyuanVAE
from opensora_fast.models.mmdit.patchify import pack


class Teacher:
    """What the tokens of a 4x8x8 model would be at the positions of a 4x32x32 latent.

    The clip is shrunk until the teacher's tokens, squares of its latents, lie as densely as the
    student's latents. The teacher gives the first frame a latent frame of its own: the clip gets
    one more in front, whose latent is dropped, so that t-th latents show the same four frames.

    Args:
        vae: the teacher's autoencoder, whose latents are standard.
        patch_size: edge of the squares of latents that are its transformer's tokens.
        ratio: pixels per latent of the student, along rows and columns.

    Raises:
        ValueError: the student's latents are denser than the teacher's tokens.
    """

    def __init__(self, vae: HunyuanVAE, patch_size: int, ratio: int) -> None:
        of_token = vae.spatial_compression_ratio * patch_size
        if ratio % of_token:
            raise ValueError(
                f"distillation: a token of the teacher covers {of_token} pixels, a latent of the "
                f"student {ratio}, which is no multiple"
            )
        self.vae, self.patch_size, self.shrink = vae, patch_size, ratio // of_token
        self.channels = vae.config.latent_channels * patch_size**2

    @torch.no_grad()
    def __call__(self, x: Tensor) -> Tensor:
        """Tokens of clips ``[B, 3, T, H, W]``, as a latent ``[B, C, t, h, w]``.

        Args:
            x: one frame, or a multiple of four.
        """
        small = F.avg_pool3d(x, (1, self.shrink, self.shrink))
        if x.shape[2] > 1:
            z = self.vae.encode(torch.cat([small[:, :, :1], small], dim=2), sample_posterior=False)
            z = z[:, :, 1:]
        else:
            z = self.vae.encode(small, sample_posterior=False)
        p = self.patch_size
        size = (z.shape[2], z.shape[3] // p, z.shape[4] // p)
        return pack(z, p).transpose(1, 2).unflatten(2, size)
