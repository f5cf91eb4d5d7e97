"""HunyuanVideo's causal 3-D variational autoencoder: 4x in time, 8x8 in space, 16 channels."""

from .config import HunyuanVAEConfig
from .model import HunyuanVAE

__all__ = ["HunyuanVAE", "HunyuanVAEConfig"]
