"""Random weights that a deep network survives: the same for ours and for every peer."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

_NORM_SPREAD = 0.3
_BIAS_SPREAD = 0.05


def drawn_weights(
    shapes: Mapping[str, torch.Size],
    *,
    device: str,
    dtype: torch.dtype,
    seed: int,
    drawn_on: str = "cpu",
) -> dict[str, Tensor]:
    """Draw parameters by their names and shapes.

    Matrices and convolutions keep the variance of their input, norm scales lie around 1.

    Args:
        shapes: by parameter name; the order does not matter.
        device: where the tensors go.
        dtype: that they are rounded to.
        seed: of the numbers.
        drawn_on: device that draws them; another device draws other numbers.

    Returns:
        The parameters.
    """
    generator = torch.Generator(drawn_on).manual_seed(seed)
    drawn = {}
    for name in sorted(shapes):
        shape = shapes[name]
        values = torch.randn(shape, generator=generator, device=drawn_on)
        if len(shape) > 1:
            values *= shape[1:].numel() ** -0.5
        elif name.endswith((".weight", ".scale")):
            values = values * _NORM_SPREAD + 1.0
        else:
            values *= _BIAS_SPREAD
        drawn[name] = values.to(device=device, dtype=dtype)
    return drawn


def filled(module: nn.Module, weights: Mapping[str, Tensor]) -> nn.Module:
    """Give a module on the meta device these very tensors as its parameters, for inference."""
    module.load_state_dict(dict(weights), strict=True, assign=True)
    return module.eval().requires_grad_(False)


def shapes_of(module: nn.Module) -> dict[str, torch.Size]:
    """Shapes of a module's parameters by name."""
    return {name: value.shape for name, value in module.state_dict().items()}


def channels_last(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of 3-D convolutions with their channels innermost; the others as they are."""
    layout = torch.channels_last_3d
    return {
        name: value.contiguous(memory_format=layout) if value.dim() == 5 else value
        for name, value in weights.items()
    }
