"""Softmax attention, many heads, no mask."""

from .op import attention

__all__ = ["attention"]
