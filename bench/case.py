"""What is measured: a case is data, its problem holds the tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import torch
from torch import Tensor

OURS = "ours"
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
SCALES = ("smoke", "cpu", "full")

Outputs: TypeAlias = "Tensor | tuple[Tensor, ...]"
Run: TypeAlias = "Callable[[], Outputs]"
Bind: TypeAlias = "Callable[..., Run]"
"""Takes the inputs of a problem and returns what is timed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """One problem in one dtype on one device; cheap, and sent to the processes that measure it.

    Args:
        suite: that it belongs to.
        name: within the suite.
        dtype: one of `DTYPES`.
        device: "cpu" or "cuda:n".
        scale: "smoke" (seconds, for tests), "cpu" (fits a few cores) or "full" (the sizes of the
            released model).
        contenders: names, ours first, then peers; the first sound peer is the baseline.
        load: makes the problem; a module-level function, so that it can be sent to a process.
        parameters: what `load` needs to know, JSON-ready.
        direction: "fwd" or "bwd".
    """

    suite: str
    name: str
    dtype: str
    device: str
    scale: str
    contenders: tuple[str, ...]
    load: Callable[[Case], Problem]
    parameters: Mapping[str, Any] = field(default_factory=dict)
    direction: str = "fwd"

    @property
    def id(self) -> str:
        """Name of the case among all others of a file of results."""
        return "/".join((self.suite, self.name, self.direction, self.dtype, self.device))

    @property
    def torch_dtype(self) -> torch.dtype:
        """The dtype of inputs and parameters."""
        return DTYPES[self.dtype]


@dataclass(frozen=True, kw_only=True, slots=True)
class Problem:
    """The tensors and functions of a case.

    Args:
        inputs: draws the inputs from a seed; the same seed gives the same bits.
        make: by contender, builds what it needs (a module with its weights) once.
        oracle: the exact outputs for these inputs, in a wider dtype.
        oracle_dtype: named in the results.
        flops: operations that the direct algorithm needs.
        bytes: least traffic: everything read once and written once.
        check: raises if ours breaks a promise on a small problem: layouts, borders, unwritten
            memory, other bits in a second run.
    """

    inputs: Callable[[int], tuple[Any, ...]]
    make: Mapping[str, Callable[[], Bind]]
    oracle: Callable[..., Outputs]
    oracle_dtype: str
    flops: int
    bytes: int
    check: Callable[[], None] | None = None


def calling(function: Callable[..., Outputs]) -> Callable[[], Bind]:
    """The contender that calls a function with the inputs, and has nothing to build."""

    def bind(*inputs: Any) -> Run:
        return lambda: function(*inputs)

    return lambda: bind


def calling_channels_last(function: Callable[[Tensor], Outputs]) -> Bind:
    """Calls a function with its video in channels-last order; putting it there is timed."""

    def bind(x: Tensor) -> Run:
        return lambda: function(x.contiguous(memory_format=torch.channels_last_3d))

    return bind


def as_tuple(outputs: Outputs) -> tuple[Tensor, ...]:
    """Outputs as a tuple."""
    return outputs if isinstance(outputs, tuple) else (outputs,)


def wide_name(dtype: str) -> str:
    """Dtype of the oracle: fp64 judges fp32, fp32 judges what is narrower."""
    return "fp64" if dtype == "fp32" else "fp32"


def widened(value: Any, dtype: str) -> Any:
    """A floating tensor in the oracle's dtype; everything else, 8-bit floats too, as it is."""
    if isinstance(value, Tensor) and value.is_floating_point() and value.element_size() > 1:
        return value.to(torch.float64 if dtype == "fp32" else torch.float32)
    return value
