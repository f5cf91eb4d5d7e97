"""RMSNorm of queries and keys, then rotary position embedding."""

from .op import qk_norm_rope

__all__ = ["qk_norm_rope"]
