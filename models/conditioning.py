"""What a video is conditioned on: which latent frames are given, and what they are.

Latents are `[B, C, T, H, W]`; a mask is 1 where a latent frame is given.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

COND_TYPES = (
    "t2v",
    "i2v_head",
    "i2v_tail",
    "i2v_loop",
    "v2v_head",
    "v2v_tail",
    "v2v_head_easy",
    "v2v_tail_easy",
)

# Latent frames of 33 (easy: 65) pixel frames; without a frame of its own for the first, one less.
_CLIP_FRAMES = {False: 9, True: 17}


def prepare_condition(
    z: Tensor,
    cond_type: str,
    references: Sequence[Sequence[Tensor]] | None = None,
    causal: bool = True,
) -> tuple[Tensor, Tensor]:
    """Lay the reference latents of each sample onto the frames that they stand for.

    | type | reference | given latent frames |
    |---|---|---|
    | t2v | none | none |
    | i2v_head, i2v_tail | first of the first, last of the last | first, last |
    | i2v_loop | two | first and last |
    | v2v_head, v2v_tail | first of the first, last of the last | first 9, last 9 |
    | v2v_head_easy, v2v_tail_easy | the same | 17; 9 if the clip is shorter |

    Args:
        z: latent of the video to make `[B, C, T, H, W]`; gives shape, dtype and device.
        cond_type: one of `COND_TYPES`.
        references: per sample a list of latents, `[C, 1, H, W]` each for i2v (loop: two) and
            `[C, t, H, W]` for v2v; a shorter clip than the table's is given whole.
        causal: the autoencoder gives the first frame a latent of its own; else clips have one
            latent frame less (8, 16).

    Returns:
        masks `[B, 1, T, H, W]` and masked_ref `[B, C, T, H, W]`, zero where nothing is given. A
        latent of a single frame is never conditioned.

    Raises:
        ValueError: an unknown type, references that are missing or of another shape, or a clip
            that leaves no frame to make.

    Source:
        Open-Sora v2, visual conditions of its inference.
    """
    if cond_type not in COND_TYPES:
        raise ValueError(f"cond_type must be one of {', '.join(COND_TYPES)}, got {cond_type!r}")
    if z.dim() != 5:
        raise ValueError(f"prepare_condition: z must be [B, C, T, H, W], got {list(z.shape)}")
    b, _, t, height, width = z.shape
    masks = z.new_zeros(b, 1, t, height, width)
    masked_ref = torch.zeros_like(z)
    if cond_type == "t2v":
        return masks, masked_ref
    if references is None or len(references) != b:
        count = "none" if references is None else str(len(references))
        raise ValueError(f"{cond_type} needs references for {b} samples, got {count}")
    for sample, latents in enumerate(references):
        _check_references(z, cond_type, latents, sample)
        if t == 1:
            continue
        for start, given in _placements(cond_type, latents, t, causal):
            stop = start + given.shape[1]
            masks[sample, :, start:stop] = 1
            masked_ref[sample, :, start:stop] = given.to(z)
    return masks, masked_ref


def restore_references(z: Tensor, masks: Tensor, masked_ref: Tensor, cond_type: str) -> Tensor:
    """Put the clean reference latents back after sampling (image conditions only).

    Each sample gets its own references; the original gives all samples those of the first.

    Args:
        z: sampled latent `[B, C, T, H, W]`.
        masks: `[B, 1, T, H, W]` from `prepare_condition`.
        masked_ref: `[B, C, T, H, W]` from `prepare_condition`.
        cond_type: one of `COND_TYPES`; clips (v2v) stay as sampled.

    Returns:
        The latent, of z's dtype.
    """
    if not cond_type.startswith("i2v"):
        return z
    return torch.where(masks > 0.5, masked_ref.to(z.dtype), z)


def _placements(
    cond_type: str, latents: Sequence[Tensor], num_frames: int, causal: bool
) -> list[tuple[int, Tensor]]:
    """First frame and content of each run of given latent frames."""
    head = (0, latents[0][:, :1])
    tail = (num_frames - 1, latents[-1][:, -1:])
    if cond_type.startswith("i2v"):
        return {"i2v_head": [head], "i2v_tail": [tail], "i2v_loop": [head, tail]}[cond_type]
    clip = latents[0] if "head" in cond_type else latents[-1]
    at_most = _CLIP_FRAMES[cond_type.endswith("_easy")] - (not causal)
    if clip.shape[1] < at_most:
        at_most = _CLIP_FRAMES[False] - (not causal)
    length = min(at_most, clip.shape[1])
    if length >= num_frames:
        raise ValueError(
            f"{cond_type} gives {length} latent frames of a video that has {num_frames}: "
            "make a longer video or give a shorter clip"
        )
    if "head" in cond_type:
        return [(0, clip[:, :length])]
    return [(num_frames - length, clip[:, clip.shape[1] - length :])]


def _check_references(z: Tensor, cond_type: str, latents: Sequence[Tensor], sample: int) -> None:
    """Raise ValueError unless the references of a sample can be laid onto z."""
    needed = 2 if cond_type == "i2v_loop" else 1
    if len(latents) < needed:
        raise ValueError(
            f"{cond_type} needs {needed} reference latents per sample, "
            f"sample {sample} has {len(latents)}"
        )
    _, c, _, height, width = z.shape
    for latent in latents:
        if latent.dim() != 4 or latent.shape[0] != c or latent.shape[2:] != z.shape[3:]:
            raise ValueError(
                f"{cond_type}: a reference latent of sample {sample} must be "
                f"[{c}, frames, {height}, {width}], got {list(latent.shape)}"
            )
        if latent.shape[1] < 1:
            raise ValueError(f"{cond_type}: a reference latent of sample {sample} has no frame")
