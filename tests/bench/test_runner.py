"""The harness finds what is wrong, and a contender that dies costs one row."""

from __future__ import annotations

import dataclasses
import os
import signal
import time
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from opensora_fast.bench.case import Case, Problem, calling
from opensora_fast.bench.processes import run_apart
from opensora_fast.bench.records import FAILED, OK, SKIP, Row
from opensora_fast.bench.runner import Options, distrust, run_case
from opensora_fast.bench.timing import Budget

QUICK = Options(
    run="r",
    scales=("smoke",),
    threads=1,
    budget=Budget(rounds=2, seconds=0.0),
    timeout_s=60.0,
    peaks={"gemm.fp32": 1e9, "copy": 1e9, "copy.cached": 1e10},
)


def double(x: Tensor) -> Tensor:
    return x.abs() * 2


def nearly_double(x: Tensor) -> Tensor:
    return x.abs() * 2.001


def write_into_x(x: Tensor) -> Tensor:
    y = double(x)
    x.neg_()  # which leaves the result of every later call right
    return y


def crash(x: Tensor) -> Tensor:
    os.kill(os.getpid(), signal.SIGSEGV)
    return x


def refuse(x: Tensor) -> Tensor:
    raise RuntimeError("no such kernel")


def hang(x: Tensor) -> Tensor:
    time.sleep(60)
    return x


class Remembering:
    """Computes once per tensor and answers from memory afterwards."""

    def __init__(self) -> None:
        self.known: dict[int, Tensor] = {}

    def __call__(self, x: Tensor) -> Tensor:
        return self.known.setdefault(x.data_ptr(), double(x))


OURS: dict[str, Callable[[Tensor], Tensor]] = {
    "right": double,
    "wrong": nearly_double,
    "writes": write_into_x,
    "crashes": crash,
    "raises": refuse,
}
PEERS: dict[str, Callable[[Tensor], Tensor]] = {"eager": double, "compile": double}


def load(case: Case) -> Problem:
    ours = case.parameters["ours"]
    made = Remembering() if ours == "remembers" else OURS[ours]
    peers = dict(PEERS)
    if case.parameters.get("peer") is not None:
        peers["compile"] = {"crashes": crash, "wrong": torch.zeros_like, "hangs": hang}[
            case.parameters["peer"]
        ]

    def inputs(seed: int) -> tuple[Any, ...]:
        return (torch.randn(64, generator=torch.Generator().manual_seed(seed)),)

    return Problem(
        inputs=inputs,
        make={"ours": calling(made), **{name: calling(peer) for name, peer in peers.items()}},
        oracle=lambda x: double(x.double()),
        oracle_dtype="fp64",
        flops=64,
        bytes=512,
    )


def measured(ours: str, *, scale: str = "smoke", options: Options = QUICK, **more: Any) -> dict[
    str, Row
]:  # fmt: skip
    case = Case(
        suite="test", name=ours, dtype="fp32", device="cpu", scale=scale, load=load,
        contenders=("ours", "eager", "compile", "flash-attn"), parameters={"ours": ours, **more},
    )  # fmt: skip
    return {row.contender: row for row in run_case(case, options, lambda what: None)}


def test_what_is_right_gets_its_figures() -> None:
    rows = measured("right")
    ours = rows["ours"]
    assert (ours.status, ours.baseline, ours.oracle) == (OK, "eager", "fp64")
    assert ours.rel_l2 is not None
    assert ours.rel_l2 < 1e-7
    assert ours.n == 2
    assert ours.median_s is not None
    assert ours.gflops_per_s == pytest.approx(64e-9 / ours.median_s)
    assert ours.bound == "memory"
    assert ours.memory_peak is not None
    assert ours.memory_peak > 1 << 20
    assert set(ours.speed_up) == {"eager", "compile"}
    assert rows["eager"].speed_up == {}
    assert rows["flash-attn"].status == SKIP
    assert "not installed" in str(rows["flash-attn"].reason)


def test_one_process_for_a_case_tells_the_same() -> None:
    together = dataclasses.replace(QUICK, together=True)
    rows = measured("right", options=together)
    assert (rows["ours"].status, rows["ours"].baseline, rows["ours"].n) == (OK, "eager", 2)
    assert set(rows["ours"].speed_up) == {"eager", "compile"}
    assert rows["flash-attn"].status == SKIP
    rows = measured("writes", options=together)
    assert rows["ours"].status == FAILED and "changes its inputs" in str(rows["ours"].reason)
    assert rows["eager"].status == OK
    rows = measured("crashes", options=together)
    assert (rows["ours"].status, rows["eager"].status) == (FAILED, SKIP)
    assert "SIGSEGV" in str(rows["ours"].reason)


@pytest.mark.parametrize("together", [False, True])
def test_a_wrong_kernel_gets_no_time(together: bool) -> None:
    rows = measured("wrong", options=dataclasses.replace(QUICK, together=together))
    assert rows["ours"].status == FAILED
    assert "wrong: rel_l2 error 0.0005, allowed" in str(rows["ours"].reason)
    assert rows["ours"].median_s is None
    assert rows["eager"].status == OK


@pytest.mark.parametrize(
    ("ours", "reason"),
    [
        ("crashes", "crashed with SIGSEGV"),
        ("raises", "RuntimeError: no such kernel"),
        ("remembers", "its result does not follow its inputs"),
        ("writes", "it changes its inputs"),
    ],
)
def test_what_breaks_the_rules_fails_and_the_peers_are_still_measured(
    ours: str, reason: str
) -> None:
    rows = measured(ours)
    assert rows["ours"].status == FAILED
    assert reason in str(rows["ours"].reason)
    assert rows["ours"].median_s is None
    assert (rows["eager"].status, rows["compile"].status) == (OK, OK)
    assert rows["eager"].median_s is not None


@pytest.mark.parametrize(
    ("peer", "status", "reason"),
    [
        ("crashes", SKIP, "crashed with SIGSEGV"),
        ("wrong", FAILED, "wrong: rel_l2 error 1"),
        ("hangs", SKIP, "took longer than 2 s"),
    ],
)
def test_a_peer_that_fails_costs_one_row(peer: str, status: str, reason: str) -> None:
    limit = 2.0 if peer == "hangs" else 60.0
    options = dataclasses.replace(QUICK, compile_timeout_s=limit)
    rows = measured("right", peer=peer, options=options)
    assert rows["compile"].status == status
    assert reason in str(rows["compile"].reason)
    assert rows["ours"].status == OK
    assert set(rows["ours"].speed_up) == {"eager"}


def test_a_case_for_a_larger_machine_is_skipped_with_a_reason() -> None:
    rows = measured("right", scale="full")
    assert list(rows) == ["ours"]
    assert rows["ours"].status == SKIP
    assert "--full" in str(rows["ours"].reason)


def test_impossible_and_suspicious_speed_is_flagged() -> None:
    row = measured("right")["ours"]
    peaks = {"gemm.fp32": 1e9, "copy.cached": 1e9}
    assert distrust(row, {"gemm.fp32": 1e15, "copy.cached": 1e15}, [2.0, 30.0]) == ()
    slow_machine = {name: value / 1e6 for name, value in peaks.items()}
    flags = " ".join(distrust(row, slow_machine, [11.0, 30.0]))
    assert "rate of the matrix product" in flags
    assert "rate of the cache" in flags
    assert "more than 10 times as fast as every peer" in flags


def test_a_task_answers_crashes_or_is_ended() -> None:
    assert run_apart(sum, [1, 2], timeout_s=60).result == 3
    assert run_apart(len, 3, timeout_s=60).failure == "TypeError: object of type 'int' has no len()"
    began = time.monotonic()
    assert "took longer" in str(run_apart(time.sleep, 30, timeout_s=1).failure)
    assert time.monotonic() - began < 20
    assert run_apart(os._exit, 3, timeout_s=60).failure == "ended without a result (status 3)"
