"""A linear layer whose products are of 8-bit numbers."""

from ..quantize_rows.formats import preferred_format
from .op import quantize_weight, quantized_linear

__all__ = ["preferred_format", "quantize_weight", "quantized_linear"]
