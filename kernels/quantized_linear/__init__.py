"""A linear layer whose products are of 8-bit numbers."""

from .op import quantize_weight, quantized_linear

__all__ = ["quantize_weight", "quantized_linear"]
