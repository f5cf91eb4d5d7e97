"""GELU in its tanh form."""

from .op import gelu

__all__ = ["gelu"]
