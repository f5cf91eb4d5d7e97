"""The Video DC-AE of Open-Sora 2.0: 4x in time, 32x32 in space, 128 channels."""

from .config import VideoDCAEConfig
from .model import VideoDCAE

__all__ = ["VideoDCAE", "VideoDCAEConfig"]
