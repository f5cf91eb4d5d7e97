"""The tuner without a GPU: questions, answers, and the table that `choose` looks into."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from opensora_fast.bench.timing import Budget
from opensora_fast.bench.tune import answer
from opensora_fast.kernels import cache
from opensora_fast.kernels.common import tune

GPU, CPU = torch.device("cuda:0"), torch.device("cpu")
OP = "gate_residual"  # any folder with sources


@dataclass(frozen=True)
class Problem:
    length: int


@dataclass(frozen=True)
class Config:
    block: int
    num_warps: int = 4


DEFAULT = Config(64)


@pytest.fixture(autouse=True)
def file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    monkeypatch.setenv(cache.ENVIRONMENT_VARIABLE, str(tmp_path))
    monkeypatch.setattr(cache, "identity", lambda _: {"name": "NVIDIA G1", "capability": "9.0"})
    tune.forget()
    yield tmp_path / "tuned-NVIDIA_G1_9.0.json"
    tune.forget()


def choose(
    length: int = 7, device: torch.device = GPU, dtype: torch.dtype = torch.bfloat16
) -> Config:
    like: Any = SimpleNamespace(device=device, dtype=dtype)
    return tune.choose(OP, Problem(length), like, DEFAULT, lambda: [Config(128), Config(256)])


def question() -> tune.Question:
    with tune.asking() as asked:
        assert choose() == DEFAULT
    (found,) = asked
    return found


def test_without_a_table_the_default_stands() -> None:
    assert choose() == DEFAULT and choose(device=CPU) == DEFAULT


def test_a_question_names_its_candidates() -> None:
    found = question()
    assert found.candidates == (Config(128), Config(256)) and found.default == DEFAULT
    with tune.trying(found, Config(256)):
        assert choose() == Config(256) and choose(device=CPU) == Config(256)
        assert choose(8) == DEFAULT, "another problem"
    assert choose() == DEFAULT


def test_what_was_best_is_taken_on_this_device_for_this_problem(file: Path) -> None:
    found = question()
    tune.remember([tune.entry(found, Config(256, 8), 1e-3, 2e-3)], GPU)
    assert choose() == Config(256, 8)
    assert choose(8) == DEFAULT and choose(device=CPU) == DEFAULT
    assert choose(dtype=torch.float32) == DEFAULT
    (line,) = json.loads(file.read_text())["entries"]
    assert line["config"] == {"block": 256, "num_warps": 8}
    tune.remember([tune.entry(found, Config(128), 1e-3, 2e-3)], GPU)
    assert choose() == Config(128) and len(json.loads(file.read_text())["entries"]) == 1


@pytest.mark.parametrize("change", [{"config": {"tile": 3}}, {"fingerprint": "0"}, {"other": 1}])
def test_lines_of_other_sources_or_fields_do_not_count(change: dict[str, Any], file: Path) -> None:
    tune.remember([tune.entry(question(), Config(256), 1e-3, 2e-3)], GPU)
    content = json.loads(file.read_text())
    content["entries"][0] |= change
    file.write_text(json.dumps(content))
    tune.forget()
    assert choose() == DEFAULT


class FakeClock:
    """Every launch takes the seconds that its table says."""

    def __init__(self, seconds: dict[int, float]) -> None:
        self.by_block = seconds

    def seconds(self, run: Callable[[], Any], calls: int) -> float:
        return self.by_block[run()]


def measured(seconds: dict[int, float], why_wrong: Callable[[], str | None]) -> Any:
    found = question()
    return answer(
        found, lambda: choose().block, why_wrong, FakeClock(seconds), Budget(rounds=3, seconds=0.0)
    )  # type: ignore[arg-type]


def test_the_fastest_that_is_right_wins() -> None:
    def why_wrong() -> str | None:
        if choose().block == 256:
            return "wrong: rel_l2 error 1, allowed 0.01"
        return None

    result = measured({64: 2e-3, 128: 1.5e-3, 256: 1e-3}, why_wrong)
    assert result.best == Config(128) and result.entry is not None
    assert result.entry.seconds == 1.5e-3 and result.entry.default_seconds == 2e-3
    assert list(result.dropped.values()) == ["wrong: rel_l2 error 1, allowed 0.01"]
    assert "1.33 times" in str(result)


def test_a_gain_within_the_noise_keeps_the_default() -> None:
    result = measured({64: 1e-3, 128: 0.99e-3, 256: 3e-3}, lambda: None)
    assert result.entry is None and "the default is best" in str(result)


def test_a_candidate_that_does_not_run_is_dropped() -> None:
    def why_wrong() -> str | None:
        if choose().block == 128:
            raise RuntimeError("out of resource: shared memory")
        return None

    result = measured({64: 2e-3, 256: 1e-3}, why_wrong)
    assert result.best == Config(256)
    assert "out of resource" in next(iter(result.dropped.values()))
