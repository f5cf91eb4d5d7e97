"""Text encoders: prompts to the tokens and the pooled vector that condition the MMDiT."""

from .clip import CLIPEncoder
from .encoder import TextEncoder
from .t5 import T5Encoder

__all__ = ["CLIPEncoder", "T5Encoder", "TextEncoder"]
