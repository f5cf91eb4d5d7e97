"""A gated branch added to its residual stream."""

from .op import gate_residual

__all__ = ["gate_residual"]
