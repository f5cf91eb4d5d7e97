"""What the cases of convolutions share: the problem, its arguments, its operations and traffic."""

from __future__ import annotations

import abc
from dataclasses import dataclass

from torch import Tensor

from ..inputs import Draw, elements


@dataclass(frozen=True, kw_only=True, slots=True)
class ConvCase(abc.ABC):
    """One problem: x is [batch, channels, *size], weight [out_channels, channels, *kernel].

    Outputs have about unit variance; `slack` is what transforms (Winograd) may add to the error of
    a sum of products in fp32.
    """

    name: str
    batch: int = 1
    channels: int
    out_channels: int
    size: tuple[int, int, int]
    kernel: tuple[int, int, int] = (3, 3, 3)
    bias: bool = True
    slack: float = 2e-5

    @property
    def x_shape(self) -> tuple[int, ...]:
        """Shape of x."""
        return (self.batch, self.channels, *self.size)

    @property
    def weight_shape(self) -> tuple[int, ...]:
        """Shape of the weight."""
        return (self.out_channels, self.channels, *self.kernel)

    @property
    @abc.abstractmethod
    def y_shape(self) -> tuple[int, ...]:
        """Shape of the output."""


def operands(case: ConvCase, draw: Draw) -> tuple[Tensor, Tensor, Tensor | None]:
    """Draw x, weight and bias."""
    x = draw.normal(*case.x_shape)
    return x, *weight_and_bias(case, draw)


def weight_and_bias(case: ConvCase, draw: Draw) -> tuple[Tensor, Tensor | None]:
    """Draw a weight that keeps the variance of what it meets, and a bias."""
    weight = draw.normal(*case.weight_shape, std=elements(case.weight_shape[1:]) ** -0.5)
    return weight, draw.normal(case.out_channels) if case.bias else None


def flops(case: ConvCase, backward: bool = False) -> int:
    """Multiplications and additions; the backward is two convolutions of the forward's size."""
    forward = 2 * elements(case.y_shape) * elements(case.weight_shape[1:])
    return 2 * forward if backward else forward


def bytes(case: ConvCase, itemsize: int = 2, backward: bool = False) -> int:
    """Least traffic: every input read once, every output written once."""
    x, weight, y = elements(case.x_shape), elements(case.weight_shape), elements(case.y_shape)
    return itemsize * (2 * x + 2 * weight + y if backward else x + weight + y)
