"""LayerNorm, then scale and shift per sample."""

from .op import layer_norm_modulate

__all__ = ["layer_norm_modulate"]
