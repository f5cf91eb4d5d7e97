"""Pictures of results. Needs matplotlib, which only this module imports."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

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
_MARKERS = {"fp32": "o", "bf16": "s", "fp16": "^"}


def plot_speed_ups(runs: Sequence[Run], path: Path) -> bool:
    """Draw a bar per case and peer: how many times faster ours is.

    Args:
        runs: with rows.
        path: of the PNG file.

    Returns:
        Whether there was anything to draw.
    """
    rows = [row for row in _ours(runs) if row.speed_up]
    peers = list(dict.fromkeys(peer for row in rows for peer in row.speed_up))
    if not rows:
        return False
    bars = [(row, peer) for row in reversed(rows) for peer in reversed(list(row.speed_up))]
    height = _MARGIN_INCHES + _BAR_INCHES * (len(bars) + len(rows))
    figure, axes = plt.subplots(figsize=(_WIDTH_INCHES, height), layout="constrained")
    places, labels, place = [], [], 0.0
    previous = None
    for row, peer in bars:
        place += 1.0 if row is previous else 2.0
        if row is not previous:
            direction = "" if row.direction == "fwd" else " bwd"
            labels.append(f"{row.suite} {row.case} {row.dtype}{direction}")
            places.append(place + (len(row.speed_up) - 1) / 2)
        previous = row
        ratio = row.speed_up[peer]
        color = _COLORS[peers.index(peer) % len(_COLORS)]
        # Medians need not lie between the percentiles of the rounds.
        reach = [
            [max(0.0, ratio["median"] - ratio["low"])],
            [max(0.0, ratio["high"] - ratio["median"])],
        ]
        axes.barh(place, ratio["median"], color=color, xerr=reach, ecolor="#555555")
        axes.annotate(
            f"{ratio['median']:.2f}x", (max(ratio["median"], ratio["high"]), place),
            xytext=(4, 0), textcoords="offset points", va="center", fontsize=7,
        )  # fmt: skip
    axes.set_yticks(places, labels, fontsize=8)
    axes.axvline(1.0, color="#333333", linewidth=0.8)
    axes.set_xlabel("times as fast as the peer (medians; lines: p20 to p80 of the rounds)")
    axes.margins(x=0.12, y=0.01)
    handles = [Patch(color=_COLORS[number % len(_COLORS)]) for number in range(len(peers))]
    axes.legend(handles, peers, fontsize=8, loc="best")
    _save(figure, path)
    return True


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
