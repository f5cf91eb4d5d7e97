"""qk_norm_rope of two streams of tokens, written side by side, with their values."""

from .op import joint_qk_norm_rope

__all__ = ["joint_qk_norm_rope"]
