"""ReLU linear attention over a video, at its own scale and at an aggregated one."""

from .op import linear_attention

__all__ = ["linear_attention"]
