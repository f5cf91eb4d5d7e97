"""Convolution of a video, causal in time."""

from .op import causal_conv3d

__all__ = ["causal_conv3d"]
