"""The profiler: what it records, how it adds up, what it refuses."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest
import torch
from torch import nn

from opensora_fast.bench.profile.__main__ import main
from opensora_fast.bench.profile.recorder import Recorder
from opensora_fast.bench.profile.summary import compare_lines, summarise_calls
from opensora_fast.bench.profile.trace import trace_events
from opensora_fast.kernels import group_norm_silu
from opensora_fast.spans import span

CPU = torch.device("cpu")


class Block(nn.Module):
    """A layer of torch's, then an op of ours."""

    def __init__(self) -> None:
        super().__init__()
        self.project = nn.Linear(8, 6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.project(x).movedim(-1, 1)
        return group_norm_silu(y, torch.ones(6), torch.zeros(6), 2)


@pytest.fixture(scope="module")
def recorder() -> Recorder:
    block, x = Block(), torch.randn(2, 5, 8)
    with Recorder(CPU) as recorder, torch.inference_mode():
        with span("first"):
            block(x)
        block(x)
    return recorder


def test_calls_know_their_op_backend_layer_and_stage(recorder: Recorder) -> None:
    calls = recorder.calls()
    products = [call for call in calls if call.flops]
    assert [call.stage for call in products] == ["first", ""]
    assert {call.module for call in products} == {"Block.project"}
    assert {call.flops for call in products} == {2 * 2 * 5 * 8 * 6}
    norms = [call for call in calls if call.op == "group_norm_silu"]
    assert len(norms) == 2 and {call.module for call in norms} == {"Block"}
    assert {call.backend for call in norms} <= {"cpu", "torch"} and norms[0].dtype == "fp32"
    assert norms[0].bytes >= 2 * 4 * 2 * 5 * 6
    assert all(call.backend is None for call in calls if call.op.startswith("aten."))
    assert all(a.start_s <= b.start_s for a, b in itertools.pairwise(calls))


def test_a_span_has_its_time_and_memory(recorder: Recorder) -> None:
    (stage,) = recorder.stages
    assert stage.name == "first" and 0 < stage.seconds < recorder.wall_s
    assert stage.peak_bytes > 1 << 20


def test_nothing_is_watched_afterwards(recorder: Recorder) -> None:
    before = len(recorder.calls())
    Block()(torch.randn(1, 2, 8))
    with span("later"):
        pass
    assert len(recorder.calls()) == before and len(recorder.stages) == 1


@pytest.mark.parametrize("by", ["op", "shape", "module", "stage"])
def test_lines_hold_all_the_time(recorder: Recorder, by: str) -> None:
    calls = recorder.calls()
    lines = summarise_calls(calls, by, {"gemm.fp32": 1e9, "copy": 1e9})
    assert sum(line.seconds for line in lines) == pytest.approx(sum(c.seconds for c in calls))
    assert sum(line.share for line in lines) == pytest.approx(1)
    assert sum(line.calls for line in lines) == len(calls)
    assert [line.seconds for line in lines] == sorted((x.seconds for x in lines), reverse=True)


def test_a_line_is_placed_under_the_roof(recorder: Recorder) -> None:
    lines = summarise_calls(recorder.calls(), "op", {"gemm.fp32": 1.0, "copy": 1e30})
    product = next(line for line in lines if line.flops)
    assert product.bound == "compute"
    assert product.percent_of_peak == pytest.approx(100 * product.flops / product.seconds)


def test_a_comparison_puts_the_largest_change_first(recorder: Recorder) -> None:
    lines = summarise_calls(recorder.calls(), "op", {})
    old = [{"name": lines[0].name, "seconds": lines[0].seconds}, {"name": "gone", "seconds": 9.0}]
    changes = compare_lines(old, lines)
    assert changes[0].name == "gone" and changes[0].after_s is None and changes[0].gained_s == 9
    same = next(change for change in changes if change.name == lines[0].name)
    assert same.gained_s == 0


def test_the_trace_lays_operators_under_layers_and_stages(recorder: Recorder) -> None:
    document = trace_events(recorder.calls(), recorder.stages)
    events = [event for event in document["traceEvents"] if event["ph"] == "X"]
    names = {event["name"] for event in events}
    assert {"first", "Block.project", "group_norm_silu"} <= names
    assert all(event["dur"] >= 0 and event["ts"] >= 0 for event in events)


def test_a_script_is_profiled_compared_and_traced(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script, saved, trace = (tmp_path / name for name in ("work.py", "old.json", "trace.json"))
    script.write_text(
        "import sys, torch\nn = int(sys.argv[1])\ntorch.ones(n, n) @ torch.ones(n, n)\n"
    )
    options = ["--no-peaks", "--by", "shape", "--json", str(saved), "--trace", str(trace)]
    assert main([*options, str(script), "33"]) == 0
    printed = capsys.readouterr().out
    assert "aten.mm" in printed and "33x33" in printed
    document = json.loads(saved.read_text())
    assert document["command"] == [str(script), "33"]
    line = next(line for line in document["lines"]["op"] if line["name"].startswith("aten.mm"))
    assert line["flops"] == 2 * 33**3
    assert json.loads(trace.read_text())["traceEvents"]
    assert main(["--no-peaks", "--diff", str(saved), str(script), "9"]) == 0
    assert "compared with the older profile" in capsys.readouterr().out


def test_the_status_of_the_command_is_kept_and_nothing_written(tmp_path: Path) -> None:
    script, saved = tmp_path / "fails.py", tmp_path / "new.json"
    script.write_text("raise SystemExit(3)\n")
    assert main(["--no-peaks", "--json", str(saved), str(script)]) == 3
    assert not saved.exists()


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        ([], "nothing to run"),
        (["train", "tiny"], "cannot run 'train'"),
        (["missing.py"], "there is no script missing.py"),
        (["--json", "profile.txt", "generate"], ".json"),
        (["--diff", __file__, "generate"], "is no profile"),
    ],
)
def test_bad_input_is_one_sentence(
    argv: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(argv) == 2
    error = capsys.readouterr().err
    assert sentence in error and error.count("\n") == 1


def test_marks_need_a_gpu(capsys: pytest.CaptureFixture[str]) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is one")
    assert main(["--nvtx", "--no-peaks", "generate", "a ball"]) == 2
    assert "--nvtx" in capsys.readouterr().err
