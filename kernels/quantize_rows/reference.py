"""The definition of quantize_rows: x ~ values * scales, one scale per row."""

from __future__ import annotations

import torch
from torch import Tensor

from .formats import FORMATS, LARGEST, SMALLEST


def forward(x: Tensor, format: str) -> tuple[Tensor, Tensor]:
    """Return values and scales. The arithmetic is fp32 for every input, and so are its bits."""
    x = x.to(torch.float32)
    largest = x.abs().amax(dim=-1).clamp(min=SMALLEST)
    # Tensor by tensor: with a number on either side torch may multiply by a rounded reciprocal.
    limit = torch.full_like(largest, LARGEST[format])
    values = x * (limit / largest)[..., None]
    if format == "int8":
        values = values.round()
    return values.to(FORMATS[format]).contiguous(), (largest / limit).contiguous()
