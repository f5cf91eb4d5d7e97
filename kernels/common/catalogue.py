"""Launches of the released models' shapes, to be compiled and looked at without a GPU.

A folder of an op whose Triton kernels are launched has a ``compiled.py`` with

    def launches(capability: int) -> Iterator[Compiled]

for every kernel and every form of launch that `pick` chooses for real shapes: forwards, backwards,
half and single precision, with and without tensor descriptors. The compile test and the published
table take what they find there.
"""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from .launch import Launch

CAPABILITIES = (80, 90, 100)
# Multiprocessors of the A100, the H100 and H200, and the B200.
NUM_MULTIPROCESSORS = {80: 108, 90: 132, 100: 148}
# Tokens of a 129-frame 768 px video with its text.
NUM_TOKENS = 76_544


@dataclass(frozen=True, kw_only=True, slots=True)
class Compiled:
    """A launch, and what the compiled code must hold.

    Args:
        name: of the case, unique within the op, e.g. "backward.3072".
        launch: planned for tensors on the meta device.
        promises: PTX instructions without which the kernel would not be what it claims to be.
    """

    name: str
    launch: Launch
    promises: tuple[str, ...] = ()


def meta(*shape: int, dtype: torch.dtype = torch.bfloat16) -> torch.Tensor:
    """A tensor that has a shape and no memory."""
    return torch.empty(shape, dtype=dtype, device="meta")


def ops_with_launches() -> list[str]:
    """Names of the folders that have a ``compiled.py``, sorted; "common" among them."""
    root = importlib.import_module(__package__.rpartition(".")[0])
    folders = (module.name for module in pkgutil.iter_modules(root.__path__) if module.ispkg)
    return sorted(
        name
        for name in folders
        if importlib.util.find_spec(f"{root.__name__}.{name}.compiled") is not None
    )


def launches(op: str, capability: int) -> Iterator[Compiled]:
    """What an op wants to see compiled for a compute capability (times ten)."""
    root = __package__.rpartition(".")[0]
    module = importlib.import_module(f"{root}.{op}.compiled")
    yield from module.launches(capability)
