"""What the Triton row of joint_qk_norm_rope can run: what qk_norm_rope's kernel can, twice."""

from __future__ import annotations

from typing import Any

from ..qk_norm_rope import launch as of_one
from .streams import why_not_either


def why_not(*args: Any) -> str | None:
    """Return why the kernel cannot serve a call, or None."""
    return why_not_either(of_one.why_not, *args)
