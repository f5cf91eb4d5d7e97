"""upsample_conv3d: nearest upsampling and the convolution behind it, in one op."""

from .op import upsample_conv3d

__all__ = ["upsample_conv3d"]
