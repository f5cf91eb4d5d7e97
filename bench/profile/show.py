"""A profile for people."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from ..show import figure, memory, seconds
from .summary import Change, Line, Profile


def print_profile(profile: Profile, by: str, top: int, console: Console) -> None:
    """Print the stages, then the lines of one grouping.

    Args:
        profile: to show.
        by: grouping.
        top: at most so many lines.
        console: to print on.
    """
    inside = min(profile.recorded_s, profile.wall_s)
    console.print(
        f"{seconds(profile.wall_s)} in all, {seconds(inside)} in operators; the rest is loading, "
        "Python between the calls and the recording itself",
        highlight=False,
    )
    if profile.stages:
        _print_stages(profile, console)
    lines = profile.lines[by]
    table = Table(title=f"by {by}", title_justify="left")
    for number, name in enumerate((by, "calls", "time", "share", "GFLOP/s", "GB/s", "% of peak")):
        table.add_column(name, justify="left" if number == 0 else "right", overflow="fold")
    for line in lines[:top]:
        table.add_row(*_cells(line))
    console.print(table)
    if len(lines) > top:
        rest = sum(line.seconds for line in lines[top:])
        console.print(f"and {len(lines) - top} more: {seconds(rest)}", highlight=False)


def print_line_changes(changes: Sequence[Change], by: str, top: int, console: Console) -> None:
    """Print what became faster or slower.

    Args:
        changes: the largest first.
        by: grouping.
        top: at most so many.
        console: to print on.
    """
    table = Table(title=f"compared with the older profile, by {by}", title_justify="left")
    for number, name in enumerate((by, "before", "now", "gained", "ratio")):
        table.add_column(name, justify="left" if number == 0 else "right", overflow="fold")
    for change in changes[:top]:
        ratio = (
            f"{change.before_s / change.after_s:.2f}x" if change.before_s and change.after_s else ""
        )
        table.add_row(
            change.name,
            seconds(change.before_s),
            seconds(change.after_s),
            f"{1e3 * change.gained_s:+.3g} ms",
            ratio,
        )
    console.print(table)


def _print_stages(profile: Profile, console: Console) -> None:
    table = Table(title="stages", title_justify="left")
    for number, name in enumerate(("stage", "time", "peak memory")):
        table.add_column(name, justify="left" if number == 0 else "right")
    for stage in profile.stages:
        table.add_row(stage.name, seconds(stage.seconds), memory(stage.peak_bytes))
    console.print(table)


def _cells(line: Line) -> tuple[str, ...]:
    rate = 1e-9 / line.seconds if line.seconds > 0 else 0.0
    return (
        line.name,
        str(line.calls),
        seconds(line.seconds),
        f"{100 * line.share:.1f} %",
        figure(line.flops * rate) if line.flops else "",
        figure(line.bytes * rate),
        "" if line.percent_of_peak is None else f"{line.percent_of_peak:.0f} % {line.bound}",
    )
