"""Blocks of pixels to channels, and means of channels: the shortcut of a down-sampling block."""
