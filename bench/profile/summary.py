"""From calls to lines: what the time went into, and how far each is from the machine's limit."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from ..calibrate import roofline
from .recorder import Call, Stage

# How calls are put together: by a key of each.
GROUPINGS: Mapping[str, Callable[[Call], tuple[str, ...]]] = {
    "op": lambda call: (call.op, call.dtype, call.backend or ""),
    "shape": lambda call: (call.op, call.dtype, call.backend or "", call.shapes),
    "module": lambda call: (call.module or "(no layer)",),
    "stage": lambda call: (call.stage or "(no stage)",),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """Calls that belong together.

    Args:
        name: what they have in common.
        calls: how many.
        seconds: in all.
        share: of the time of all recorded calls, 0 to 1.
        flops: operations of the direct algorithms.
        bytes: of arguments and results.
        percent_of_peak: of the tighter limit, calls of one dtype only; None without peaks.
        bound: "compute" or "memory".
    """

    name: str
    calls: int
    seconds: float
    share: float
    flops: int
    bytes: int
    percent_of_peak: float | None = None
    bound: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Profile:
    """One recorded run.

    Args:
        command: that ran.
        circumstances: date, commit, device and versions.
        wall_s: of the whole run.
        recorded_s: within operators.
        stages: spans with their time and memory.
        lines: by grouping, largest first.
        peaks: of the machine; empty if not measured.
    """

    command: list[str]
    circumstances: dict[str, Any]
    wall_s: float
    recorded_s: float
    stages: list[Stage]
    lines: dict[str, list[Line]]
    peaks: dict[str, float] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def summarise_calls(calls: Sequence[Call], grouping: str, peaks: Mapping[str, float]) -> list[Line]:
    """Put calls together.

    Args:
        calls: recorded.
        grouping: a key of `GROUPINGS`.
        peaks: of the machine, from `calibrate`; may be empty.

    Returns:
        Lines, those that took longest first.
    """
    groups: dict[tuple[str, ...], list[Call]] = {}
    for call in calls:
        groups.setdefault(GROUPINGS[grouping](call), []).append(call)
    whole = sum(call.seconds for call in calls) or 1.0
    lines = [
        _line(" ".join(filter(None, key)), members, whole, peaks) for key, members in groups.items()
    ]
    return sorted(lines, key=lambda line: -line.seconds)


def _line(name: str, members: Sequence[Call], whole: float, peaks: Mapping[str, float]) -> Line:
    seconds = sum(call.seconds for call in members)
    flops, traffic = sum(call.flops for call in members), sum(call.bytes for call in members)
    dtypes = {call.dtype for call in members}
    place = None
    if len(dtypes) == 1 and seconds > 0:
        place = roofline(seconds, flops, traffic, next(iter(dtypes)), dict(peaks))
    return Line(
        name=name,
        calls=len(members),
        seconds=seconds,
        share=seconds / whole,
        flops=flops,
        bytes=traffic,
        percent_of_peak=place.percent if place is not None else None,
        bound=place.bound if place is not None else None,
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Change:
    """A line that two profiles share, or that only one of them has."""

    name: str
    before_s: float | None
    after_s: float | None

    @property
    def gained_s(self) -> float:
        """Seconds less than before."""
        return (self.before_s or 0.0) - (self.after_s or 0.0)


def compare_lines(before: Iterable[Mapping[str, Any]], after: Iterable[Line]) -> list[Change]:
    """Match lines by name.

    Args:
        before: lines of a saved profile.
        after: lines of a new one.

    Returns:
        Changes, the largest first in either direction.
    """
    old = {line["name"]: float(line["seconds"]) for line in before}
    new = {line.name: line.seconds for line in after}
    changes = [
        Change(name=name, before_s=old.get(name), after_s=new.get(name))
        for name in dict.fromkeys([*new, *old])
    ]
    return sorted(changes, key=lambda change: -abs(change.gained_s))
