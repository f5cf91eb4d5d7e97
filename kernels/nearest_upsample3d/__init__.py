"""Nearest-neighbour upsampling that keeps the first frame single."""

from .op import nearest_upsample3d

__all__ = ["nearest_upsample3d"]
