"""What the cases of the two pixel shuffles share: the problem, its arguments, its traffic."""

from __future__ import annotations

import abc
from dataclasses import dataclass
from typing import Any

import torch

from ..inputs import Draw, elements


@dataclass(frozen=True, kw_only=True, slots=True)
class ShuffleCase(abc.ABC):
    """One problem: x is [batch, channels, *size]."""

    name: str
    batch: int = 1
    channels: int
    out_channels: int
    size: tuple[int, int, int]
    scale: tuple[int, int, int] = (2, 2, 2)
    added: bool = True
    wide_added: bool = False

    @property
    @abc.abstractmethod
    def y_size(self) -> tuple[int, int, int]:
        """T, H and W of the output."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of x."""
        return (self.batch, self.channels, *self.size)

    @property
    def y_shape(self) -> tuple[int, ...]:
        """Shape of the output."""
        return (self.batch, self.out_channels, *self.y_size)


def make_inputs(
    case: ShuffleCase, device: torch.device | str, dtype: torch.dtype, seed: int = 0
) -> tuple[Any, ...]:
    """Arguments of the op."""
    draw = Draw(device, dtype, seed)
    x = draw.normal(*case.shape)
    added = draw.normal(*case.y_shape, wide=case.wide_added) if case.added else None
    return x, case.out_channels, case.scale, added


def bytes(case: ShuffleCase, itemsize: int = 2, backward: bool = False) -> int:
    """Least traffic: one side read, the other written; forwards `added` is read, too."""
    y = elements(case.y_shape) * (2 if case.added and not backward else 1)
    return itemsize * (elements(case.shape) + y)
