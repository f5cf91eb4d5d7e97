"""Channels repeated and spread over pixels: the shortcut of an up-sampling block."""

from .op import channel_duplicate_shuffle3d

__all__ = ["channel_duplicate_shuffle3d"]
