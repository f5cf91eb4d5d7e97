"""A tensor and the GELU of another, side by side."""

from .op import concat_gelu

__all__ = ["concat_gelu"]
