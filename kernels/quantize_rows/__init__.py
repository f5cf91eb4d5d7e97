"""Rows of 8-bit numbers with one scale each."""

from .op import quantize_rows

__all__ = ["quantize_rows"]
