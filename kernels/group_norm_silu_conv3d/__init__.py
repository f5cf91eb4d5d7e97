"""group_norm_silu_conv3d: half a residual block of a causal autoencoder, in one op."""

from .op import group_norm_silu_conv3d

__all__ = ["group_norm_silu_conv3d"]
