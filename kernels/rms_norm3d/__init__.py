"""RMS norm over the channels of every position of a video, then an activation."""

from .op import rms_norm3d

__all__ = ["rms_norm3d"]
