"""Pictures of results. Needs matplotlib, which only this module imports."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib

matplotlib.use("Agg")

from matplotlib import pyplot as plt
from matplotlib.patches import Patch

from .calibrate import compute_peak
from .case import OURS
from .records import OK, Row, Run, latest_rows

_BAR_INCHES, _MARGIN_INCHES, _WIDTH_INCHES = 0.22, 1.4, 9.0
_DPI = 130
_COLORS = ("#3b6ea5", "#d98032", "#4a9a5c", "#b04a5a", "#7a5fa8", "#8a7a55")
_MOST_CASES = 30  # with a bar for each
_OF_ROUNDS = "medians; lines: p20 to p80 of the rounds"
_MARKERS = {"fp32": "o", "bf16": "s", "fp16": "^"}


class _Bar(NamedTuple):
    """Ours over a peer, and from where to where the ratio goes."""

    ratio: float
    low: float
    high: float


_Groups = dict[str, dict[str, _Bar]]  # label -> peer -> bar


def plot_speed_ups(runs: Sequence[Run], path: Path) -> bool:
    """Draw how many times faster ours is: a bar per case and peer; of many cases, per op and peer.

    Args:
        runs: with rows.
        path: of the PNG file.

    Returns:
        Whether there was anything to draw.
    """
    rows = [row for row in _ours(runs) if row.speed_up]
    if not rows:
        return False
    by_op = len(rows) > _MOST_CASES
    groups = _of_ops(rows) if by_op else _of_cases(rows)
    peers = list(dict.fromkeys(peer for bars in groups.values() for peer in bars))
    count = sum(map(len, groups.values())) + len(groups)
    size = (_WIDTH_INCHES, _MARGIN_INCHES + _BAR_INCHES * count)
    figure, axes = plt.subplots(figsize=size, layout="constrained")
    places, place = [], 0.0
    for bars in groups.values():
        places.append(place + (len(bars) - 1) / 2)
        for peer, bar in bars.items():
            # Medians need not lie between the percentiles of the rounds.
            reach = [[max(0.0, bar.ratio - bar.low)], [max(0.0, bar.high - bar.ratio)]]
            color = _COLORS[peers.index(peer) % len(_COLORS)]
            axes.barh(place, bar.ratio, color=color, xerr=reach, ecolor="#555555")
            axes.annotate(
                f"{bar.ratio:.2f}x", (max(bar.ratio, bar.high), place),
                xytext=(4, 0), textcoords="offset points", va="center", fontsize=7,
            )  # fmt: skip
            place += 1.0
        place += 1.0
    axes.invert_yaxis()
    axes.set_yticks(places, list(groups), fontsize=8)
    axes.axvline(1.0, color="#333333", linewidth=0.8)
    what = "geometric means over shapes; lines: all shapes" if by_op else _OF_ROUNDS
    axes.set_xlabel(f"times as fast as the peer ({what})")
    axes.margins(x=0.12, y=0.01)
    handles = [Patch(color=_COLORS[number % len(_COLORS)]) for number in range(len(peers))]
    axes.legend(handles, peers, fontsize=8, loc="best")
    _save(figure, path)
    return True


def _of_cases(rows: Sequence[Row]) -> _Groups:
    return {
        _label(row, row.case): {
            peer: _Bar(ratio["median"], ratio["low"], ratio["high"])
            for peer, ratio in row.speed_up.items()
        }
        for row in rows
    }


def _of_ops(rows: Sequence[Row]) -> _Groups:
    medians: dict[str, dict[str, list[float]]] = {}
    for row in rows:
        of_op = medians.setdefault(_label(row, row.case.split("/")[0]), {})
        for peer, ratio in row.speed_up.items():
            of_op.setdefault(peer, []).append(ratio["median"])
    return {
        label: {
            peer: _Bar(statistics.geometric_mean(found), min(found), max(found))
            for peer, found in of_op.items()
        }
        for label, of_op in medians.items()
    }


def _label(row: Row, what: str) -> str:
    direction = "" if row.direction == "fwd" else " bwd"
    return f"{row.suite} {what} {row.dtype}{direction}"


def plot_roofline(runs: Sequence[Run], path: Path) -> bool:
    """Draw operations per second over operations per byte, under the machine's measured roof.

    Args:
        runs: with rows and peaks; the roofs are the last run's.
        path: of the PNG file.

    Returns:
        Whether there was anything to draw.
    """
    latest = latest_rows(runs).values()
    points = [row for row, _ in latest if row.status == OK and row.flops and row.gflops_per_s]
    peaks = runs[-1].peaks if runs else {}
    if not points or "copy" not in peaks:
        return False
    figure, axes = plt.subplots(figsize=(_WIDTH_INCHES, 6.0), layout="constrained")
    intensities = [_intensity(row) for row in points]
    span = (min(*intensities, 1.0) / 2, max(*intensities, 100.0) * 2)
    dtypes = list(dict.fromkeys(row.dtype for row in points))
    for number, dtype in enumerate(dtypes):
        color = _COLORS[number % len(_COLORS)]
        peak = compute_peak(dtype, peaks)
        if peak is not None:
            knee = min(max(peak / peaks["copy"], span[0]), span[1])
            xs = [span[0], knee, span[1]]
            roof = [min(peak, x * peaks["copy"]) / 1e9 for x in xs]
            axes.plot(xs, roof, color=color, linewidth=1, label=f"measured roof, {dtype}")
        for ours in (True, False):
            some = [r for r in points if r.dtype == dtype and r.contender.startswith(OURS) == ours]
            axes.scatter(
                [_intensity(row) for row in some], [row.gflops_per_s or 0 for row in some],
                marker=_MARKERS.get(dtype, "o"), s=28, edgecolors=color,
                facecolors=color if ours else "none",
                label=f"{'ours' if ours else 'peers'}, {dtype}",
            )  # fmt: skip
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("operations of the direct algorithm per byte of least traffic")
    axes.set_ylabel("GFLOP/s (direct algorithm)")
    axes.set_axisbelow(True)
    axes.grid(True, which="major", color="#dddddd", linewidth=0.6)
    axes.legend(fontsize=8)
    _save(figure, path)
    return True


def _ours(runs: Sequence[Run]) -> list[Row]:
    rows = [row for row, _ in latest_rows(runs).values()]
    return [row for row in rows if row.contender == OURS and row.status == OK]


def _intensity(row: Row) -> float:
    return (row.flops or 0) / max(1, row.bytes or 0)


def _save(figure: Any, path: Path) -> None:
    figure.savefig(path, dpi=_DPI, format="png")
    plt.close(figure)
