"""The image autoencoder of FLUX.1, which works on the frames of a video one by one."""

from .config import AutoEncoder2DConfig
from .model import AutoEncoder2D

__all__ = ["AutoEncoder2D", "AutoEncoder2DConfig"]
