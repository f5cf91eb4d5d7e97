"""3-D convolution between zeros, and what surrounds it in the Video DC-AE."""

from .op import conv3d

__all__ = ["conv3d"]
