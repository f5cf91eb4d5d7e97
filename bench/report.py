"""A report from files of results: Markdown tables, and plots where matplotlib is installed."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from opensora_fast.kernels.atomic import replacing

from .case import OURS
from .records import OK, Row, Run, latest_rows
from .show import HEADER, cells, memory, seconds

_PLOTS = {"speedup.png": "speed-up over peers", "roofline.png": "roofline"}


def write_report(runs: Sequence[Run], folder: Path) -> list[str]:
    """Write a report.

    Args:
        runs: from `records.read`; of several measurements of the same the last counts.
        folder: for `report.md` and the plots; made if it is missing.

    Returns:
        Sentences that say what was written.
    """
    said = []
    plots = []
    if find_spec("matplotlib") is None:
        said.append("no plots: matplotlib is not installed (requirements-bench.txt has it)")
    else:
        from .plots import plot_roofline, plot_speed_ups

        for name, draw in (("speedup.png", plot_speed_ups), ("roofline.png", plot_roofline)):
            with replacing(folder / name) as partial:
                drawn = draw(runs, partial)
                if not drawn:
                    partial.touch()
            if drawn:
                plots.append(name)
                said.append(f"wrote {folder / name}")
            else:
                (folder / name).unlink()
    with replacing(folder / "report.md") as partial:
        partial.write_text(markdown(runs, plots), encoding="utf-8")
    return [f"wrote {folder / 'report.md'}", *said]


def markdown(runs: Sequence[Run], plots: Sequence[str] = ()) -> str:
    """The report's text.

    Args:
        runs: from `records.read`.
        plots: files beside it.

    Returns:
        Markdown.
    """
    found = [row for row, _ in latest_rows(runs).values()]
    parts = ["# Measurements", *(_machine(run) for run in runs)]
    parts.extend(f"![{_PLOTS[name]}]({name})" for name in plots)
    ratios = _summary(found)
    if ratios:
        parts += ["## Ours over peers", ratios]
    for suite in dict.fromkeys(row.suite for row in found):
        rows = [cells(row) for row in found if row.suite == suite]
        parts += [f"## {suite}", _table(HEADER, rows)]
    parts.append(
        "Times are medians of interleaved rounds in one process; speed-ups are ratios of medians. "
        "Errors are relative L2 distances to an exact result. Memory is what a call adds to its "
        "process, measured in a process of its own. Percentages of the peak count the operations "
        "of the direct algorithm, so an algorithm that needs fewer of them may exceed 100 %."
    )
    return "\n\n".join(parts) + "\n"


def _machine(run: Run) -> str:
    facts, device = run.facts, run.facts.get("device", {})
    versions = facts.get("versions", {})
    commit = str(facts.get("commit"))[:12] + (" with changes" if facts.get("dirty") else "")
    peaks = ", ".join(f"{name} {value / 1e9:.1f} G/s" for name, value in run.peaks.items())
    load = facts.get("state", {}).get("loadavg")
    return (
        f"- {facts.get('suite')}: {facts.get('date')}, commit {commit}, {device.get('name')}, "
        f"{device.get('threads')} threads, {' '.join(device.get('isa', ()))}, "
        f"torch {versions.get('torch')}; peaks: {peaks}; load before: {load}"
    )


def _summary(rows: Sequence[Row]) -> str:
    """One line per case and peer: ratio, errors and memory side by side."""
    by_key = {row.key: row for row in rows}
    lines = []
    for ours in rows:
        if ours.contender != OURS or ours.status != OK:
            continue
        for peer, ratio in ours.speed_up.items():
            theirs = by_key.get((ours.case_id, peer))
            if theirs is None:
                continue
            lines.append(
                (
                    f"{ours.suite} {ours.case} {ours.dtype} {ours.direction}",
                    f"{peer} {theirs.version or ''}".strip(),
                    f"{ratio['median']:.2f}x ({ratio['low']:.2f}-{ratio['high']:.2f})",
                    f"{ratio['min']:.2f}x",
                    f"{seconds(ours.median_s)} / {seconds(theirs.median_s)}",
                    f"{ours.rel_l2:.1e} / {theirs.rel_l2:.1e}",
                    f"{memory(ours.memory_activations)} / {memory(theirs.memory_activations)}",
                )
            )
    header = ("case", "peer", "speed-up (p20-p80)", "of minima", "ours / peer", "error", "memory")
    return _table(header, lines) if lines else ""


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "/") for cell in line) + " |"
                     for line in lines)  # fmt: skip
