"""The file of results: JSON lines, documented in docs/measuring.md."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

SCHEMA = 1
OK, FAILED, SKIP = "OK", "FAILED", "SKIP"
SUFFIX = ".jsonl"


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One contender in one case; None where there is nothing to say.

    Args:
        run: id of the run that it belongs to.
        suite: of the case.
        case: name within the suite.
        direction: "fwd" or "bwd".
        dtype: "fp32", "bf16", "fp16".
        device: "cpu" or "cuda:n".
        scale: "smoke", "cpu" or "full".
        contender: "ours" or a peer.
        version: of the peer's package.
        status: OK; FAILED: ours is wrong or crashed, or a peer is wrong; SKIP: it cannot run here.
        reason: why it is not OK, one sentence.
        oracle: dtype of the exact result.
        baseline: the peer whose error decides what is allowed.
        rel_l2: error against the oracle, relative L2.
        largest: largest error over root mean square of the oracle.
        allowed_rel_l2: the largest `rel_l2` that passes.
        n: samples.
        median_s: seconds per call.
        min_s: smallest.
        p20_s: 20th percentile.
        p80_s: 80th percentile.
        spread: (p80 - p20) / median.
        smallest_difference: smallest relative change that a second such run would show.
        first_call_s: seconds of building and of the first two calls.
        flops: operations of the direct algorithm.
        bytes: least traffic.
        gflops_per_s: flops over median.
        gbytes_per_s: bytes over median.
        percent_of_peak: of the tighter of the two limits that were measured on this machine.
        bound: "compute" or "memory", whichever limit is the tighter one.
        memory_before: bytes of the process before the first call.
        memory_kept: bytes that stay after a call.
        memory_peak: most bytes of the process during a call.
        memory_activations: the same above what stays.
        speed_up: for ours, by sound peer: median, low and high (p20 and p80 of the rounds), min.
        facts: what the contender says about itself.
        warnings: sentences about figures that deserve distrust.
    """

    run: str
    suite: str
    case: str
    direction: str
    dtype: str
    device: str
    scale: str
    contender: str
    version: str | None = None
    status: str
    reason: str | None = None
    oracle: str | None = None
    baseline: str | None = None
    rel_l2: float | None = None
    largest: float | None = None
    allowed_rel_l2: float | None = None
    n: int | None = None
    median_s: float | None = None
    min_s: float | None = None
    p20_s: float | None = None
    p80_s: float | None = None
    spread: float | None = None
    smallest_difference: float | None = None
    first_call_s: float | None = None
    flops: int | None = None
    bytes: int | None = None
    gflops_per_s: float | None = None
    gbytes_per_s: float | None = None
    percent_of_peak: float | None = None
    bound: str | None = None
    memory_before: int | None = None
    memory_kept: int | None = None
    memory_peak: int | None = None
    memory_activations: int | None = None
    speed_up: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    warnings: Sequence[str] = ()

    @property
    def case_id(self) -> str:
        """Name of the case among all others of a file."""
        return "/".join((self.suite, self.case, self.direction, self.dtype, self.device))

    @property
    def key(self) -> tuple[str, str]:
        """What the same measurement in another file is found by."""
        return self.case_id, self.contender


@dataclass(kw_only=True, slots=True)
class Run:
    """One start of the program: its circumstances and its rows."""

    id: str
    facts: dict[str, Any]
    rows: list[Row] = field(default_factory=list)
    end: dict[str, Any] | None = None

    @property
    def machine(self) -> tuple[Any, ...]:
        """What must be equal for seconds to be comparable."""
        device = self.facts.get("device", {})
        return device.get("type"), device.get("name"), device.get("threads")

    @property
    def peaks(self) -> dict[str, float]:
        """The machine's measured peaks."""
        found: dict[str, float] = self.facts.get("peaks", {})
        return found


class Writer:
    """Appends records to a file, each line whole; does nothing without a file.

    A measurement takes hours, in which the file may be moved away or removed: it is then written
    again, with all that this writer has put there.
    """

    def __init__(self, path: Path | None, *, append: bool) -> None:
        self._path, self._lines = path, list[str]()
        self._file: TextIO | None = None
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("a" if append else "w", encoding="utf-8")

    def run(self, run: Run) -> None:
        """Write the circumstances of a run."""
        self._write({"record": "run", "schema": SCHEMA, "id": run.id, **run.facts})

    def row(self, row: Row) -> None:
        """Write a row."""
        self._write({"record": "row", **dataclasses.asdict(row)})

    def end(self, run: Run, facts: Mapping[str, Any]) -> None:
        """Write what is known at the end of a run."""
        self._write({"record": "end", "run": run.id, **facts})

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()

    def _write(self, record: Mapping[str, Any]) -> None:
        if self._path is None or self._file is None:
            return
        line = json.dumps(record) + "\n"
        self._lines.append(line)
        if self._is_there():
            self._file.write(line)
        else:
            self._file.close()
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._path.open("a", encoding="utf-8")
            self._file.writelines(self._lines)
        self._file.flush()

    def _is_there(self) -> bool:
        assert self._path is not None and self._file is not None
        try:
            return os.path.samestat(os.fstat(self._file.fileno()), self._path.stat())
        except FileNotFoundError:
            return False


def read(path: Path) -> list[Run]:
    """Read a file of results.

    A last line that was cut off, by a machine that went down, is left out.

    Args:
        path: of the file.

    Returns:
        Its runs, in order.

    Raises:
        ValueError: the file holds something else.
        OSError: it cannot be read.
    """
    runs: dict[str, Run] = {}
    lines = path.read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            if number == len(lines):
                break
            raise ValueError(f"{path}, line {number}: {error.msg}") from None
        try:
            _take(record, runs)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise ValueError(f"{path}, line {number}: not a record of results ({reason})") from None
    if not runs:
        raise ValueError(f"{path} holds no results of this program")
    return list(runs.values())


def _take(record: dict[str, Any], runs: dict[str, Run]) -> None:
    kind = record.pop("record")
    if kind == "run":
        schema = record.pop("schema")
        if schema != SCHEMA:
            raise ValueError(f"schema {schema}, this program reads {SCHEMA}")
        name = record.pop("id")
        runs[name] = Run(id=name, facts=record)
    elif kind == "row":
        row = Row(**record)
        runs[row.run].rows.append(row)
    elif kind == "end":
        runs[record.pop("run")].end = record
    else:
        raise ValueError(f"unknown kind {kind!r}")


def latest_rows(runs: Sequence[Run]) -> dict[tuple[str, str], tuple[Row, Run]]:
    """The last measurement of every contender in every case, with its run."""
    return {row.key: (row, run) for run in runs for row in run.rows}
