"""The file of results while it is being written."""

from __future__ import annotations

from pathlib import Path

import pytest

from opensora_fast.bench.records import Row, Run, Writer, read


def a_row(case: str) -> Row:
    return Row(
        run="r", suite="s", case=case, direction="fwd", dtype="fp32", device="cpu", scale="cpu",
        contender="ours", status="OK",
    )  # fmt: skip


@pytest.mark.parametrize("moved", [True, False], ids=["moved", "removed"])
def test_rows_survive_that_their_file_is_taken_away(tmp_path: Path, moved: bool) -> None:
    path = tmp_path / "results" / "out.jsonl"
    writer = Writer(path, append=False)
    writer.run(Run(id="r", facts={"suite": "s"}))
    writer.row(a_row("first"))
    if moved:
        path.rename(tmp_path / "elsewhere.jsonl")
    else:
        path.unlink()
        path.parent.rmdir()
    writer.row(a_row("second"))
    writer.row(a_row("third"))
    writer.close()
    assert [row.case for row in read(path)[0].rows] == ["first", "second", "third"]
