"""The multimodal diffusion transformer (MMDiT) that predicts the velocity of a noisy latent."""

from .config import MMDiTConfig
from .model import MMDiT, MMDiTContext
from .patchify import latent_position_ids, pack, text_position_ids, unpack

__all__ = [
    "MMDiT",
    "MMDiTConfig",
    "MMDiTContext",
    "latent_position_ids",
    "pack",
    "text_position_ids",
    "unpack",
]
