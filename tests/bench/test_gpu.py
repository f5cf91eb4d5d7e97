"""What `make gpu` would run: resolved without a GPU, and run in small where a CPU can."""

from __future__ import annotations

import dataclasses
import functools
import json
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from opensora_fast.bench import calibrate, conformance, far, gpu, processes
from opensora_fast.bench.__main__ import build_parser, main
from opensora_fast.bench.case import as_tuple
from opensora_fast.bench.gpu import Step, run_step, steps
from opensora_fast.bench.records import FAILED, OK, SKIP, read
from opensora_fast.bench.whole import evenness
from opensora_fast.bench.whole_pipeline import released_text_encoders
from opensora_fast.kernels.registry import OPS, Op
from opensora_fast.kernels.testing import cases_of

PYTHON = sys.executable


def python(name: str, code: str, limit_s: float = 60, **fields: Any) -> Step:
    return Step(name=name, what=name, command=(PYTHON, "-c", code), limit_s=limit_s, **fields)


def test_every_step_resolves(tmp_path: Path) -> None:
    found = steps(tmp_path, (9, 0))
    names = [step.name for step in found]
    assert names.index("build") < names.index("ceilings") < names.index("conformance")
    assert names.index("t2v-256") < names.index("kernels") and len(names) == len(set(names))
    for step in found:
        words = list(step.command)
        if "opensora_fast.bench" in words:
            arguments = words[words.index("opensora_fast.bench") + 1 :]
            build_parser().parse_args(arguments)
            assert arguments[-1] == str(tmp_path / f"{step.name}.jsonl")
    build = found[0]
    assert build.environment["OPENSORA_FAST_CUDA_ARCHITECTURES"] == "90a-real"
    assert steps(tmp_path, (8, 0))[0].environment["OPENSORA_FAST_CUDA_ARCHITECTURES"] == "80-real"


def test_a_rehearsal_prints_the_commands_and_runs_none(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["gpu", "--rehearse", "--out", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out
    for name in ("build", "doctor", "ceilings", "sanitizer", "decode-768", "t2v-256", "kernels"):
        assert f"\n{name} " in "\n" + printed
    assert "OPENSORA_FAST_CUDA_ARCHITECTURES=90a-real" in printed
    assert not (tmp_path / "out").exists()
    assert main(["gpu", "--rehearse", "--step", "doctor"]) == 0
    assert "ceilings" not in capsys.readouterr().out


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["gpu"]) == 2
    assert "bench gpu needs a CUDA device" in capsys.readouterr().err
    assert main(["gpu", "--rehearse", "--step", "dance"]) == 2
    assert "there is no step 'dance'; steps are build, doctor" in capsys.readouterr().err
    assert main(["tune"]) == 2
    assert "needs a CUDA device" in capsys.readouterr().err
    assert main(["whole"]) == 2
    assert "need a CUDA device" in capsys.readouterr().err


def test_a_step_has_a_file_and_a_status(tmp_path: Path) -> None:
    good = run_step(python("good", "import os; print(os.environ['X'])", environment={"X": "seen"}),
                    tmp_path, 60)  # fmt: skip
    assert good.status == OK and (tmp_path / "good.txt").read_text() == "seen\n"
    bad = run_step(python("bad", "raise SystemExit(3)"), tmp_path, 60)
    assert bad.status == FAILED and bad.reason == "exit status 3, see bad.txt"
    assert run_step(python("late", ""), tmp_path, 1).reason == "no time is left"
    lacking = run_step(python("lacking", "", why_skip="no hat"), tmp_path, 60)
    assert (lacking.status, lacking.reason) == (SKIP, "no hat")
    assert not (tmp_path / "lacking.txt").exists()


def is_running(pid: int) -> bool:
    """Whether a process lives; one that has ended and waits to be asked for does not."""
    state = Path(f"/proc/{pid}/stat")
    try:
        return state.read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_a_step_that_takes_too_long_is_ended_with_what_it_started(tmp_path: Path) -> None:
    code = (
        "import subprocess, sys, time\n"
        "inner = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        "print('begun', inner.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    began = time.monotonic()
    done = run_step(python("slow", code, limit_s=2), tmp_path, 60)
    assert done.status == gpu.TIMEOUT and "ended after 2 s" in (done.reason or "")
    assert time.monotonic() - began < 20
    said, inner = (tmp_path / "slow.txt").read_text().split()[:2]
    assert said == "begun"
    while is_running(int(inner)):
        assert time.monotonic() - began < 30
        time.sleep(0.1)


def test_one_failure_does_not_stop_the_rest(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (9, 0))
    monkeypatch.setattr(
        gpu,
        "steps",
        lambda out, capability: [python("one", "raise SystemExit(1)"), python("two", "")],
    )
    assert main(["gpu", "--out", str(tmp_path)]) == 1
    lines = [json.loads(line) for line in (tmp_path / "steps.jsonl").read_text().splitlines()]
    assert [(line["name"], line["status"]) for line in lines] == [("one", FAILED), ("two", OK)]
    assert "two" in capsys.readouterr().out


def test_conformance_of_one_op_on_the_cpu(tmp_path: Path) -> None:
    path = tmp_path / "conformance.jsonl"
    words = ["conformance", "gate_residual", "--device", "cpu", "--dtype", "fp32", "--jobs", "2"]
    assert main([*words, "--json", str(path)]) == 0
    (run,) = read(path)
    found = {(row.direction, row.contender): row for row in run.rows}
    assert {direction for direction, _ in found} == {"fwd", "bwd"}
    assert gpu.results(path) == [] == gpu.results(tmp_path / "missing.jsonl")
    assert found["fwd", "torch"].status == OK and found["fwd", "torch"].facts["passed"] > 3
    assert run.end is not None


def test_what_is_wrong_in_conformance_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(name: str, case: Any, **_: Any) -> None:
        assert case.name == "never", "3 of 4 elements are too far off"

    monkeypatch.setattr(conformance, "check_op", wrong)
    (task,) = conformance.tasks_for("cpu", ["gelu"], ["torch"], ["fp32"])[:1]
    checked = conformance.check_row(task)
    status, reason = conformance._verdict(checked["fp32"], None)
    assert status == FAILED and "3 of 4 elements" in (reason or "")
    assert conformance._verdict(None, "crashed with SIGSEGV") == (FAILED, "crashed with SIGSEGV")
    rows = list(conformance._rows(task, processes.Outcome(checked, None), "id"))
    assert [row.status for row in rows] == [FAILED]


class FarEndIsLost:
    """An op that computes small tensors right, and of a large one not the last column."""

    def __init__(self, op: Op, large: torch.Size) -> None:
        self.op, self.prepare, self.large = op, op.prepare, large

    def __call__(self, *args: Any) -> Any:
        out, *more = (x.clone() for x in as_tuple(self.op(*args)))
        if args[0].shape == self.large:
            out[-1:, ..., -1] = 0
        return out, *more


@pytest.mark.parametrize("op", ["gate_residual", "causal_conv3d", "upsample_conv3d", "attention"])
def test_the_far_end_is_what_it_is_alone(op: str, monkeypatch: pytest.MonkeyPatch) -> None:
    case = cases_of(op).CHECK[0]
    if op in far.LOCAL_IN_TIME:
        case = dataclasses.replace(case, batch=1, size=(7, 4, 5))
    else:
        case = dataclasses.replace(case, batch=3)
    check = functools.partial(
        far.check_far_end, op, case, backend="reference", device="cpu", dtype=torch.float32
    )
    check()
    large = cases_of(op).make_inputs(case, "meta", torch.float32)[0].shape
    monkeypatch.setattr(far, "OPS", {op: FarEndIsLost(OPS[op], large)})
    with pytest.raises(AssertionError, match="the far end differs"):
        check()


def test_a_norm_has_no_far_end_of_its_own() -> None:
    with pytest.raises(far.NotSeparableError):
        far.far_part("group_norm_silu", (torch.ones(1, 4, 2, 2, 2),))


def test_large_cases_are_those_that_the_definition_can_judge() -> None:
    for op in ("causal_conv3d", "attention", "group_norm_silu", "frame_causal_attention_backward"):
        assert len(conformance.large_cases(op)) <= 2
    assert conformance.large_cases("group_norm_silu")
    assert all(case.length <= 4096 for case in conformance.large_cases("attention"))


@pytest.mark.slow
@pytest.mark.parametrize("model", ["decode-768", "decode-dcae-768", "step-256", "t2v-256"])
def test_whole_models_in_small(model: str, tmp_path: Path) -> None:
    path = tmp_path / "whole.jsonl"
    words = ["whole", model, "--smoke", "--device", "cpu", "--dtype", "fp32", "--seconds", "0.01"]
    assert main([*words, "--steps", "2", "--repeat", "2", "--json", str(path)]) == 0
    (run,) = read(path)
    (row,) = run.rows
    assert row.case == model and row.status == OK and row.median_s is not None
    if model == "t2v-256":
        assert row.facts["steps"] == 2 and set(row.facts["stages"]) == {"text", "denoise", "decode"}
    else:
        assert row.rel_l2 is not None and row.allowed_rel_l2 is not None
        assert row.rel_l2 <= row.allowed_rel_l2 and row.n is not None and row.n >= 2
        assert ("deviation" in row.facts) == model.startswith("decode")
    (line,) = gpu.results(path)
    assert line.startswith(f"whole/{model} fp32  ours  ")


def test_the_text_encoders_have_the_released_sizes() -> None:
    t5, clip = released_text_encoders(torch.device("meta"), torch.bfloat16)
    sizes = [sum(value.numel() for value in encoder.parameters()) for encoder in (t5, clip)]
    assert sizes[0] == pytest.approx(4.76e9, rel=0.01)
    assert sizes[1] == pytest.approx(123e6, rel=0.01)
    assert {value.dtype for value in t5.parameters()} == {torch.bfloat16}


def test_a_part_that_was_not_written_stands_out() -> None:
    video = torch.randn(1, 3, 9, 16, 16, generator=torch.Generator().manual_seed(0))
    assert evenness(video)["frames"][0] > 0.9
    video[:, :, 5] = 0
    smallest, median, _ = evenness(video)["frames"]
    assert smallest == 0 and median > 0.9


def test_ceilings_are_written_without_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibrate, "_GEMM_EDGES", {"cpu": (32,)})
    monkeypatch.setattr(calibrate, "_COPY_BYTES", {"cpu": 1 << 10})
    path = tmp_path / "ceilings.jsonl"
    assert main(["ceilings", "--device", "cpu", "--seconds", "0.001", "--json", str(path)]) == 0
    (run,) = read(path)
    assert run.peaks["copy"] > 0 and run.rows == []
    (line,) = gpu.results(path)
    assert line.startswith("ceilings: gemm.fp32 ")
