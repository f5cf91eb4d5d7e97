"""Blocks of pixels to channels, and means of channels: the shortcut of a down-sampling block."""

from .op import pixel_unshuffle_average3d

__all__ = ["pixel_unshuffle_average3d"]
