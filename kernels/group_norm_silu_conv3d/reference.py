"""The definition of group_norm_silu_conv3d: the definitions that it joins, and their gradients."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from ..causal_conv3d import reference as conv
from ..contract import layout_of, wide
from ..group_norm_silu import reference as norm
from ..moments import channel_moments, channel_statistics, fake_moments

STRIDE = (1, 1, 1)


def pad_mode(pad_rows: bool) -> str:
    """That of the convolution."""
    return "replicate" if pad_rows else "replicate_rows"


def output_shape(
    x_shape: Sequence[int], weight_shape: Sequence[int], pad_rows: bool
) -> tuple[int, ...]:
    """Shape [B, O, T, H', W] of the output."""
    return conv.output_shape(x_shape, weight_shape, STRIDE, pad_mode(pad_rows))


def forward(
    x: Tensor,
    norm_weight: Tensor,
    norm_bias: Tensor,
    num_groups: int,
    eps: float,
    weight: Tensor,
    bias: Tensor | None,
    residual: Tensor | None,
    moments: Tensor | None,
    gather: bool,
    pad_rows: bool,
) -> tuple[Tensor, Tensor]:
    """Return the convolution of the activated x, plus the residual, and its channels' moments."""
    if moments is None:
        h = norm.forward(x, norm_weight, norm_bias, num_groups, eps, True)[0]
    else:
        if pad_rows:
            # The values of what is given, the gradients of what is taken from x.
            own = channel_moments(x)
            moments = own + (moments - own).detach()
        _, z = _normalised(x, norm_weight, norm_bias, num_groups, eps, moments)
        h = (z * z.sigmoid()).to(x.dtype)
    y = conv.forward(h, weight, bias, STRIDE, pad_mode(pad_rows))
    if residual is not None:
        total = y.to(wide(y.dtype)) + residual.to(wide(y.dtype))
        y = total.to(y.dtype).contiguous(memory_format=layout_of(x))
    return y, channel_moments(y) if gather else fake_moments(y, y, False)


def backward(
    grad: Tensor,
    x: Tensor,
    norm_weight: Tensor,
    norm_bias: Tensor,
    num_groups: int,
    eps: float,
    weight: Tensor,
    moments: Tensor | None,
    pad_rows: bool,
    needs: Sequence[bool],
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return the gradients of x, the norm's weight and bias, weight and bias.

    `needs` asks for the first three together, for weight and for bias; what is not needed comes
    back without elements. The residual's gradient is `grad`.
    """
    affine = (norm_weight, norm_bias, num_groups, eps)
    if moments is None:
        h, mean, rstd = norm.forward(x, *affine, True)
    else:
        _, z = _normalised(x, *affine, moments)
        h = (z * z.sigmoid()).to(x.dtype)
    dh, dweight, dbias = conv.backward(grad, h, weight, STRIDE, pad_mode(pad_rows), needs)
    if not needs[0]:
        return dh, dh.clone(), dh.clone(), dweight, dbias
    if moments is None:
        inputs = norm.backward(dh, x, norm_weight, norm_bias, mean, rstd, num_groups, eps, True)
    else:
        inputs = backward_of_fixed(dh, x, *affine, moments)
    return (*inputs, dweight, dbias)


def backward_of_fixed(
    dh: Tensor,
    x: Tensor,
    norm_weight: Tensor,
    norm_bias: Tensor,
    num_groups: int,
    eps: float,
    moments: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of x, the norm's weight and bias, where the moments do not depend on x.

    `dh` is that of the activated x.
    """
    normed, z = _normalised(x, norm_weight, norm_bias, num_groups, eps, moments)
    s = z.sigmoid()
    dz = dh.to(z.dtype) * s * (1 + z * (1 - s))
    over = (0, 2, 3, 4)
    _, root = channel_statistics(moments, num_groups, eps)
    factor = root * norm_weight.to(root.dtype)
    dx = dz * factor.to(z.dtype)[:, :, None, None, None]
    return (
        dx.to(x.dtype).contiguous(memory_format=layout_of(x)),
        (dz * normed).sum(over).to(norm_weight.dtype),
        dz.sum(over).to(norm_bias.dtype),
    )


def _normalised(
    x: Tensor,
    norm_weight: Tensor,
    norm_bias: Tensor,
    num_groups: int,
    eps: float,
    moments: Tensor,
) -> tuple[Tensor, Tensor]:
    """Return x normalised by given moments, and the same scaled and shifted; wide."""
    mean, root = channel_statistics(moments, num_groups, eps)
    mean, root, scale, shift = (
        part.to(wide(x.dtype)).view(-1, x.shape[1], 1, 1, 1)
        for part in (mean, root, norm_weight, norm_bias)
    )
    normed = (x.to(mean.dtype) - mean) * root
    return normed, normed * scale + shift
