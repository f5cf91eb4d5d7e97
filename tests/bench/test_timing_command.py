"""`opensora-fast bench` as its users meet it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from opensora_fast.bench import session
from opensora_fast.bench.__main__ import VERBS, main
from opensora_fast.bench.records import read

SMALLEST = [
    "kernels", "gate_residual", "--scale", "smoke", "--peers", "eager", "--threads", "1",
    "--repeat", "2", "--seconds", "0.01",
]  # fmt: skip


def status_of(words: Sequence[str]) -> int:
    try:
        return main(words)
    except SystemExit as stop:
        assert isinstance(stop.code, int)
        return stop.code


@pytest.mark.slow
def test_measure_resume_and_compare(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "new" / "a.jsonl"
    assert main([*SMALLEST, "--dtype", "fp32", "--json", str(file)]) == 0
    (run,) = read(file)
    assert [(row.contender, row.status) for row in run.rows] == [("ours", "OK"), ("eager", "OK")]
    assert {"date", "commit", "dirty", "device", "versions", "peers", "peaks", "state"} <= set(
        run.facts
    )
    assert run.facts["device"]["threads"] == 1
    assert run.end is not None
    assert "loadavg" in run.end["state"]
    assert "gate_residual/batch fp32" in capsys.readouterr().out

    more = [*SMALLEST, "--dtype", "fp32", "bf16", "--json", str(file), "--resume"]
    assert main([*more, "--compare", str(file), "--fail-on", "1000"]) == 0
    first, second = read(file)
    assert {row.dtype for row in first.rows} == {"fp32"}
    assert {row.dtype for row in second.rows} == {"bf16"}
    out = capsys.readouterr().out
    assert "same" in out
    assert "new" in out


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["kernels", "softmax"], "there is no op 'softmax'; ops are"),
        (["kernels", "--dtype", "fp8"], "invalid choice: 'fp8'"),
        (["kernels", "--case", "tensor"], "no case matches 'tensor'"),
        (["kernels", "--repeat", "0"], "expected a whole number from 1, got '0'"),
        (["kernels", "--seconds", "-1"], "a number of seconds above 0, got '-1'"),
        (["kernels", "--timeout", "nan"], "a number of seconds above 0, got 'nan'"),
        (["kernels", "--device", "abacus"], "device must be auto, cpu or cuda[:n], got 'abacus'"),
        (["kernels", "--device", "cuda:99"], "there is no device cuda:99"),
        (["kernels", "--backend", "abacus"], "invalid choice: 'abacus'"),
        (["kernels", "--json", "a.txt"], "extension '.txt' is not supported; use .jsonl"),
        (["kernels", "--resume"], "--resume needs --json FILE"),
        (["kernels", "--fail-on", "5"], "--fail-on needs --compare OLD"),
        (["kernels", "--compare", "/no/such.jsonl"], "/no/such.jsonl: no such file"),
        (["vae-hunyuan", "gate_residual"], "unrecognized arguments: gate_residual"),
        (["compare", "/no/such.jsonl", "b.jsonl"], "/no/such.jsonl: no such file"),
        (["compare", "a", "b", "--fail-on", "x"], "expected a percentage from 0, got 'x'"),
        (["report"], "the following arguments are required: RESULTS"),
        (["list", "nothing"], "invalid choice: 'nothing'"),
    ],
)
def test_a_mistake_is_answered_in_one_sentence(
    capsys: pytest.CaptureFixture[str], words: list[str], reason: str
) -> None:
    status = status_of(words)
    captured = capsys.readouterr()
    assert (status, captured.out) == (2, "")
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1
    assert reason in captured.err


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"commit": "0123456789abcdef"}, "the file is of commit 0123456789ab"),
        ({"device": {"type": "cpu", "name": "Abacus", "threads": 9}}, "'Abacus', 9), this is"),
    ],
)
def test_only_the_same_code_on_the_same_machine_is_resumed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], changes: dict[str, Any], reason: str
) -> None:
    import torch

    from opensora_fast.bench.circumstances import circumstances

    facts = circumstances(torch.device("cpu"))
    facts["device"]["threads"] = 1
    record = {"record": "run", "schema": 1, "id": "x", **facts, **changes}
    file = tmp_path / "a.jsonl"
    file.write_text(json.dumps(record) + "\n")
    assert main([*SMALLEST, "--json", str(file), "--resume"]) == 2
    assert reason in capsys.readouterr().err
    assert len(file.read_text().splitlines()) == 1


def test_an_interruption_says_what_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*args: Any, **kwargs: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(session.processes, "run_apart", interrupted)
    file = str(tmp_path / "a.jsonl")
    assert main([*SMALLEST, "--json", file]) == 130
    assert f"{file} has what was measured, --resume goes on" in capsys.readouterr().err


def test_lists_and_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list"]) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in (*VERBS, "diffusers", "flash-attn", "liger"))
    assert main(["list", "vae-hunyuan"]) == 0
    assert "decode-17x256x256" in capsys.readouterr().out
    for name in VERBS:
        assert status_of([name, "--help"]) == 0
    assert "docs/measuring.md" in capsys.readouterr().out
