"""The models room. Imported as ``opensora_fast.models``."""

if __name__ != "opensora_fast.models":
    raise ImportError(
        "import this room as opensora_fast.models: a second copy of its classes would not match "
        "the first"
    )

from .autoencoder_2d import AutoEncoder2D, AutoEncoder2DConfig
from .checkpoint import CheckpointError
from .dc_ae import VideoDCAE, VideoDCAEConfig
from .hunyuan_vae import HunyuanVAE, HunyuanVAEConfig
from .mmdit import MMDiT, MMDiTConfig

__all__ = [
    "AutoEncoder2D",
    "AutoEncoder2DConfig",
    "CheckpointError",
    "HunyuanVAE",
    "HunyuanVAEConfig",
    "MMDiT",
    "MMDiTConfig",
    "VideoDCAE",
    "VideoDCAEConfig",
]
