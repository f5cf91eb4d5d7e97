"""Only what lies outside the noise is a change; files of results come back as they were written."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from opensora_fast.bench.__main__ import main
from opensora_fast.bench.compare import compare
from opensora_fast.bench.records import FAILED, OK, Row, Run, Writer, latest_rows, read
from opensora_fast.bench.report import markdown

MACHINE = {"type": "cpu", "name": "Abacus", "threads": 2}


def a_row(run: str = "r", **changes: Any) -> Row:
    row = Row(
        run=run, suite="kernels", case="sum/small", direction="fwd", dtype="fp32", device="cpu",
        scale="cpu", contender="ours", status=OK, rel_l2=1e-7, largest=1e-6, n=9, median_s=1.0,
        min_s=0.9, spread=0.02, smallest_difference=0.03, percent_of_peak=50.0, bound="compute",
        flops=10, bytes=4, gflops_per_s=1e-8, gbytes_per_s=4e-9,
        speed_up={"eager": {"median": 2.0, "low": 1.9, "high": 2.2, "min": 2.1}},
    )  # fmt: skip
    return dataclasses.replace(row, **changes)


def a_run(*rows: Row, name: str = "Abacus") -> Run:
    facts = {
        "device": {**MACHINE, "name": name},
        "peaks": {"gemm.fp32": 2e9, "copy": 1e9},
        "suite": "kernels",
        "versions": {"torch": "2"},
    }
    return Run(id="r", facts=facts, rows=list(rows))


def write(path: Path, run: Run) -> Path:
    writer = Writer(path, append=False)
    writer.run(run)
    for row in run.rows:
        writer.row(row)
    writer.end(run, {"seconds": 3})
    writer.close()
    return path


@pytest.mark.parametrize(
    ("now", "verdict"),
    [(1.0, "same"), (1.02, "same"), (1.2, "slower"), (0.8, "faster"), (0.985, "same")],
)
def test_a_change_lies_outside_the_noise(now: float, verdict: str) -> None:
    (change,) = compare([a_run(a_row())], [a_run(a_row(median_s=now))])
    assert change.verdict == verdict
    assert change.band == pytest.approx(0.03)


def test_noise_of_either_side_widens_the_band() -> None:
    noisy = a_row(median_s=1.2, smallest_difference=0.4)
    (change,) = compare([a_run(a_row())], [a_run(noisy)])
    assert change.verdict == "same"
    (change,) = compare([a_run(noisy)], [a_run(a_row())])
    assert change.verdict == "same"


def test_quiet_results_keep_a_floor() -> None:
    quiet = {"smallest_difference": 0.0}
    (change,) = compare([a_run(a_row(**quiet))], [a_run(a_row(median_s=1.015, **quiet))])
    assert change.verdict == "same"


def test_other_machines_are_compared_by_their_own_peaks() -> None:
    faster_machine = a_run(a_row(median_s=0.5, percent_of_peak=30.0), name="Difference Engine")
    (change,) = compare([a_run(a_row())], [faster_machine])
    assert (change.unit, change.verdict) == ("% of peak", "slower")
    assert change.ratio == pytest.approx(50 / 30)


def test_what_fails() -> None:
    (slower,) = compare([a_run(a_row())], [a_run(a_row(median_s=1.2))])
    assert slower.fails(5)
    assert not slower.fails(25)
    (lost,) = compare([a_run(a_row())], [a_run(a_row(status=FAILED, median_s=None))])
    assert lost.verdict == "lost"
    assert lost.fails(99)
    (new,) = compare([a_run(a_row(case="other"))], [a_run(a_row())])
    assert new.verdict == "new"
    assert not new.fails(0)


def test_a_file_comes_back_as_it_was_written(tmp_path: Path) -> None:
    run = a_run(a_row(), a_row(contender="eager", speed_up={}, facts={"forwards": 3}))
    (back,) = read(write(tmp_path / "new" / "a.jsonl", run))
    assert back.facts == run.facts
    assert [row.key for row in back.rows] == [row.key for row in run.rows]
    assert dataclasses.asdict(back.rows[0]) == {**dataclasses.asdict(run.rows[0]), "warnings": []}
    assert back.end == {"seconds": 3}
    assert back.machine == ("cpu", "Abacus", 2)


def test_a_line_that_was_cut_off_is_left_out_and_other_files_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", a_run(a_row()))
    path.write_text(path.read_text() + '{"record": "row", "ca')
    assert len(read(path)[0].rows) == 1
    for text, reason in (
        ("", "holds no results"),
        ('{"a": 1}\n{}\n', "line 1: not a record of results"),
        ('{"record": "run", "schema": 99, "id": "x"}\n', "schema 99, this program reads 1"),
        ("[1]\n", "line 1: not a record"),
        ("words\nwords\n", "line 1: Expecting value"),
    ):
        path.write_text(text)
        with pytest.raises(ValueError, match=reason):
            read(path)


def test_the_last_measurement_counts() -> None:
    runs = [a_run(a_row()), a_run(a_row(median_s=3.0))]
    ((row, _),) = latest_rows(runs).values()
    assert row.median_s == 3.0


def test_the_verb_compare_says_so_in_its_status(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = str(write(tmp_path / "old.jsonl", a_run(a_row())))
    new = str(write(tmp_path / "new.jsonl", a_run(a_row(median_s=1.5))))
    assert main(["compare", old, new]) == 0
    assert main(["compare", old, new, "--fail-on", "20"]) == 1
    assert main(["compare", new, old, "--fail-on", "20"]) == 0
    assert "slower" in capsys.readouterr().out


def test_a_report_has_tables_and_plots(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    peer = a_row(contender="eager", speed_up={}, median_s=2.0)
    file = str(write(tmp_path / "a.jsonl", a_run(a_row(), peer)))
    assert main(["report", file, "--out", str(tmp_path / "out")]) == 0
    text = (tmp_path / "out" / "report.md").read_text()
    assert "| kernels sum/small fp32 fwd | eager | 2.00x (1.90-2.20) |" in text
    said = " ".join(capsys.readouterr().err.split())
    pytest.importorskip("matplotlib")
    for name in ("speedup.png", "roofline.png"):
        assert (tmp_path / "out" / name).read_bytes().startswith(b"\x89PNG")
        assert name in said
        assert f"]({name})" in text


def test_a_failed_row_shows_no_time() -> None:
    row = a_row(status=FAILED, reason="wrong: rel_l2 error 1", median_s=None, speed_up={})
    text = markdown([a_run(row)])
    assert "| sum/small fp32 | ours | FAILED |" in text
    assert "wrong: rel_l2 error 1" in text
