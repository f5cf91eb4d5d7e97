"""Golden cases: configuration, drawn weights and inputs, stored outputs of the original."""

from __future__ import annotations

import gzip
import json
import math
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

# First of all: with the checkout on sys.path, transformers would take our kernels room for an
# optional package of its own, until this package has closed that name.
import opensora_fast  # noqa: F401

GOLDEN = Path(__file__).parent.parent / "golden"


def draw(name: str, shape: Sequence[int], scale: float = 1.0) -> Tensor:
    state = np.random.RandomState(zlib.crc32(name.encode()))
    values = state.standard_normal(math.prod(shape)).astype(np.float32) * np.float32(scale)
    return torch.from_numpy(values.reshape(tuple(shape)))


def weight(key: str, shape: Sequence[int]) -> Tensor:
    if len(shape) > 1:
        return draw(key, shape, 1 / math.sqrt(math.prod(shape[1:])))
    return draw(key, shape, 0.1) if key.endswith("bias") else 1 + draw(key, shape, 0.1)


class Golden:
    """One case of tests/golden."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.case: dict[str, Any] = json.loads((GOLDEN / f"{name}.json").read_text())
        self.outputs = load_file(GOLDEN / f"{name}.safetensors")

    @property
    def config(self) -> dict[str, Any]:
        """The configuration without the original's key for the file to load."""
        return {k: v for k, v in self.case["config"].items() if k != "from_pretrained"}

    def input(self, name: str, shape: Sequence[int]) -> Tensor:
        return draw(f"{self.name}/{name}", shape)

    def fill(self, model: Any) -> Any:
        """Give a model the drawn weights; its keys and shapes must be the original's."""
        assert {k: list(v.shape) for k, v in model.state_dict().items()} == self.case["state_dict"]
        model.load_state_dict({k: weight(k, v) for k, v in self.case["state_dict"].items()})
        return model.eval()

    def check(self, name: str, actual: Tensor) -> None:
        expected = self.outputs[name]
        assert actual.shape == expected.shape
        worst = (actual - expected).abs().max()
        assert worst <= 1e-4 * expected.std(), f"{self.name}/{name}: off by {worst}"


@pytest.fixture
def golden() -> Callable[[str], Golden]:
    return Golden


@pytest.fixture
def full_size_keys() -> Callable[[str], dict[str, list[int]]]:
    def read(name: str) -> dict[str, list[int]]:
        packed = (GOLDEN / "keys" / f"{name}.json.gz").read_bytes()
        return json.loads(gzip.decompress(packed))

    return read


@pytest.fixture
def fill_randomly() -> Callable[[nn.Module], nn.Module]:
    """Weights by the goldens' rule for a model that is no golden case."""

    def fill(model: nn.Module) -> nn.Module:
        model.load_state_dict({k: weight(k, tuple(v.shape)) for k, v in model.state_dict().items()})
        return model

    return fill
