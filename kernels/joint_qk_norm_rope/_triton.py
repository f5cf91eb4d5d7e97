"""joint_qk_norm_rope in Triton: qk_norm_rope's forward kernel writes each stream to its place."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ..qk_norm_rope import _triton as of_one
from .streams import side_by_side


def forward(*args: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Return q, k and v of all tokens."""
    return side_by_side(of_one.write, *args)
