"""The definition of joint_qk_norm_rope: qk_norm_rope of each stream, then concatenations."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..qk_norm_rope import reference as of_one
from .streams import streams_of


def forward(*args: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Return q, k and v of all tokens."""
    streams = streams_of(*args)
    turned = [of_one.forward(*stream.arguments(*args[12:])) for stream in streams]
    q, k = (torch.cat(parts, dim=1) for parts in zip(*turned, strict=True))
    return q, k, torch.cat([stream.v for stream in streams], dim=1)
