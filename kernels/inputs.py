"""Inputs for checks and benches: drawn from a seed, on the device and in the dtype asked for."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


class Draw:
    """A stream of normal tensors, the same for the same seed, device and dtype.

    Args:
        device: where to draw; on ``"meta"`` the tensors have no values.
        dtype: what to round to; values are drawn in fp32.
        seed: of the stream.
    """

    def __init__(self, device: torch.device | str, dtype: torch.dtype, seed: int) -> None:
        self.device = torch.device(device)
        self.dtype = dtype
        self._generator = (
            None if self.device.type == "meta" else torch.Generator(self.device).manual_seed(seed)
        )

    def normal(
        self, *shape: int, mean: float = 0.0, std: float = 1.0, wide: bool = False
    ) -> Tensor:
        """Draw a tensor; `wide` keeps it in fp32 where the dtype is narrower."""
        dtype = torch.float32 if wide and self.dtype.itemsize < 4 else self.dtype
        if self._generator is None:
            return torch.empty(shape, dtype=dtype, device=self.device)
        drawn = torch.randn(shape, generator=self._generator, device=self.device)
        return drawn.mul_(std).add_(mean).to(dtype)


def elements(shape: Sequence[int]) -> int:
    """Return the number of elements of a shape."""
    product = 1
    for size in shape:
        product *= size
    return product
