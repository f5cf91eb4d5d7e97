"""Figures for people: units, one table for the terminal and for Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from .compare import Change
from .records import OK, Row

HEADER = (
    "case", "contender", "time", "spread", "speed-up", "error", "GFLOP/s", "GB/s", "% of peak",
    "memory", "remarks",
)  # fmt: skip
_RATES, _WIDE = ("GFLOP/s", "GB/s", "spread"), 140
_STYLES = {"FAILED": "bold red", "SKIP": "dim"}


def cells(row: Row) -> tuple[str, ...]:
    """One row as text, in the order of `HEADER`."""
    return (
        f"{row.case} {row.dtype}" + ("" if row.direction == "fwd" else f" {row.direction}"),
        row.contender,
        seconds(row.median_s) if row.status == OK else row.status,
        "" if row.spread is None else f"{100 * row.spread:.1f} %",
        speed_up_of(row),
        "" if row.rel_l2 is None else f"{row.rel_l2:.1e}",
        figure(row.gflops_per_s),
        figure(row.gbytes_per_s),
        "" if row.percent_of_peak is None else f"{row.percent_of_peak:.0f} % {row.bound}",
        memory(row.memory_activations),
        remarks(row),
    )


def speed_up_of(row: Row) -> str:
    """Speed-up of ours over every peer, e.g. "5.2x diffusers"."""
    return ", ".join(f"{ratio['median']:.2f}x {peer}" for peer, ratio in row.speed_up.items())


def remarks(row: Row) -> str:
    """Reason, warnings and facts."""
    facts = [f"{name.replace('_', ' ')}: {value}" for name, value in row.facts.items()]
    return "; ".join([*([row.reason] if row.reason else []), *row.warnings, *facts])


def seconds(value: float | None) -> str:
    """A duration in a unit that suits it."""
    if value is None:
        return ""
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value / 1e-6:.3g} µs"


def memory(value: int | None) -> str:
    """A number of bytes in MiB."""
    return "" if value is None else f"{value / 2**20:.1f} MiB"


def figure(value: float | None) -> str:
    """A number of any size, three digits."""
    if value is None:
        return ""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def print_rows(rows: Sequence[Row], title: str, console: Console) -> None:
    """Print rows as a table; a narrow terminal gets fewer columns."""
    table = Table(title=title, title_justify="left")
    shown = [i for i, name in enumerate(HEADER) if console.width >= _WIDE or name not in _RATES]
    for number, name in ((i, HEADER[i]) for i in shown):
        left = number < 2 or name in ("speed-up", "remarks")
        table.add_column(name, justify="left" if left else "right", overflow="fold")
    previous = None
    for row in rows:
        text = list(cells(row))
        if row.case_id == previous:
            text[0] = ""
        previous = row.case_id
        table.add_row(*(text[i] for i in shown), style=_STYLES.get(row.status))
    console.print(table)
    console.print(
        "Times are medians of interleaved rounds. Errors: relative L2 against an exact result."
        " Memory: activations, from a process of its own. See docs/measuring.md.",
        highlight=False,
    )


def print_changes(changes: Sequence[Change], console: Console) -> None:
    """Print what a comparison found."""
    table = Table(title="compared with the older results", title_justify="left")
    for number, name in enumerate(("case", "contender", "before", "now", "change", "verdict")):
        table.add_column(name, justify="left" if number < 2 else "right", overflow="fold")
    for change in changes:
        table.add_row(
            change.case_id,
            change.contender,
            _compared(change, change.before),
            _compared(change, change.now),
            ""
            if change.ratio is None or change.band is None
            else f"{100 * (change.ratio - 1):+.1f} % (noise {100 * change.band:.1f} %)",
            change.verdict,
            style={"slower": "red", "lost": "bold red", "faster": "green"}.get(change.verdict),
        )
    console.print(table)


def _compared(change: Change, value: float | None) -> str:
    if value is None:
        return ""
    return seconds(value) if change.unit == "s" else f"{value:.0f} {change.unit}"
