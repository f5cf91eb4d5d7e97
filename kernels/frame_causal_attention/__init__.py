"""One-head attention in which a frame sees itself and the past."""

from .op import frame_causal_attention

__all__ = ["frame_causal_attention"]
