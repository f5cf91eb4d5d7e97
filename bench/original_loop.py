"""The original's sampling loop, plainly: three branches in every step, whatever their factors."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from opensora_fast.models.mmdit.patchify import (
    latent_position_ids,
    pack,
    text_position_ids,
    unpack,
)
from opensora_fast.models.sampling import Guidance

_BRANCHES = 3


def denoise_three_branches(
    model: Callable[..., Tensor],
    z: Tensor,
    *,
    txt: Tensor,
    y_vec: Tensor,
    neg_txt: Tensor,
    neg_y_vec: Tensor,
    masks: Tensor,
    masked_ref: Tensor,
    timesteps: Sequence[float],
    guidance: Guidance,
    patch_size: int = 2,
    cond_type: str = "t2v",
) -> tuple[Tensor, int]:
    """Integrate as the original does.

    Args:
        model: called like an `MMDiT`.
        z: noise `[B, C, T, H, W]`.
        txt: text tokens `[B, L, M]`.
        y_vec: pooled text `[B, M]`.
        neg_txt: tokens of the negative prompt, of txt's shape.
        neg_y_vec: pooled negative prompt, of y_vec's shape.
        masks: `[B, 1, T, H, W]`.
        masked_ref: `[B, C, T, H, W]`.
        timesteps: from 1 to 0.
        guidance: the scales.
        patch_size: edge of a token's latent square.
        cond_type: decides about the ramp of the image guidance.

    Returns:
        The latent, and the number of branch forwards.

    Numerics:
        The state is kept in z's dtype, as in the original.
    """
    batch, _, frames, rows, columns = z.shape
    size = (frames, rows, columns)
    cond = pack(torch.cat([masks, masked_ref], dim=1), patch_size)
    count = _BRANCHES * batch
    constant = {
        "img_ids": latent_position_ids(count, size, patch_size, device=z.device),
        "txt": torch.cat([txt, neg_txt, neg_txt]),
        "txt_ids": text_position_ids(count, txt.shape[1], device=z.device),
        "y_vec": torch.cat([y_vec, neg_y_vec, neg_y_vec]),
        "cond": torch.cat([cond, cond, torch.zeros_like(cond)]),
    }
    x = pack(z, patch_size)
    tokens_per_frame = x.shape[1] // frames
    evaluations = 0
    for index, (t, t_next) in enumerate(itertools.pairwise(timesteps)):
        times = torch.full((count,), t, dtype=z.dtype, device=z.device)
        velocity = model(img=torch.cat([x] * _BRANCHES), timesteps=times, **constant)
        evaluations += _BRANCHES
        prompted, negative, free = velocity.chunk(_BRANCHES)
        text, image = guidance.scales(index, len(timesteps) - 1, frames, cond_type)
        per_frame = torch.tensor(image, dtype=z.dtype, device=z.device)
        g_img = per_frame.repeat_interleave(tokens_per_frame)[:, None]
        x = x + (t_next - t) * (free + g_img * (negative - free) + text * (prompted - negative))
    return unpack(x, size, patch_size), evaluations
