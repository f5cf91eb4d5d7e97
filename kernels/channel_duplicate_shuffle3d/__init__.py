"""Channels repeated and spread over pixels: the shortcut of an up-sampling block."""
