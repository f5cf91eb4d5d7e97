"""joint_qk_norm_rope in C++ for the CPU: qk_norm_rope's kernel writes each stream to its place."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ..qk_norm_rope import _cpu as of_one
from .streams import side_by_side, why_not_either

VERIFIED = of_one.VERIFIED


def why_not(*args: Any) -> str | None:
    """Say why the kernel cannot serve this call, or return None."""
    return why_not_either(of_one.why_not, *args)


def forward(*args: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Return q, k and v of all tokens."""
    return side_by_side(of_one.write, *args)
