"""The gated, inverted bottleneck of the Video DC-AE: widen, activate, convolve, gate, narrow."""

from .op import glu_mb_conv

__all__ = ["glu_mb_conv"]
