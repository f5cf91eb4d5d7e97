"""LayerNorm, scale and shift per sample, and the result as 8-bit rows."""

from .op import layer_norm_modulate_quantized

__all__ = ["layer_norm_modulate_quantized"]
