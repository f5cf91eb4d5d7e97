"""What `quality=` means: how much of the original's arithmetic a pipeline keeps."""

from __future__ import annotations

import torch

from opensora_fast.models import MMDiT
from opensora_fast.models.mmdit.quantize import quantize_linears

QUALITIES = ("lossless", "high")


def check_quality(quality: str) -> None:
    """Raise ValueError unless this version has such a quality."""
    if quality not in QUALITIES:
        raise ValueError(
            f'quality must be "lossless" or "high" for now ("fast" is still to come), '
            f"got {quality!r}"
        )


def with_quality(transformer: MMDiT, quality: str, device: torch.device) -> MMDiT:
    """Return the loaded transformer as `quality` has it, made for running on `device`.

    "high" changes it in place: see `quantize_linears`.
    """
    if quality == "high":
        quantize_linears(transformer, device=device)
    return transformer
