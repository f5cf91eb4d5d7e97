"""GroupNorm, then SiLU."""

from .op import group_norm_silu

__all__ = ["group_norm_silu"]
