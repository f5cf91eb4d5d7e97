"""Is it faster or slower than before? Only what lies outside the noise is called a change."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from .records import OK, Row, Run, latest_rows

# Two runs of the same code differ by this much even where each of them hardly scatters: other
# pages, other alignment, another temperature.
FLOOR = 0.02
SAME, FASTER, SLOWER, LOST, NEW = "same", "faster", "slower", "lost", "new"


@dataclass(frozen=True, kw_only=True, slots=True)
class Change:
    """One contender in one case, before and now.

    Args:
        case_id: of the case.
        contender: of the row.
        unit: what is compared: "s", or "% of peak" between different machines.
        before: the old figure, None if there was none.
        now: the new one.
        ratio: how many times slower it is now; below 1 is faster.
        band: relative change that noise alone may make.
        verdict: same, faster, slower, lost (OK before, not now) or new.
    """

    case_id: str
    contender: str
    unit: str
    before: float | None
    now: float | None
    ratio: float | None
    band: float | None
    verdict: str

    def fails(self, percent: float) -> bool:
        """Whether this is a loss of more than so many percent, beyond the noise."""
        if self.verdict == LOST:
            return True
        return self.verdict == SLOWER and (self.ratio or 0) > 1 + percent / 100


def compare(before: Sequence[Run], now: Sequence[Run]) -> list[Change]:
    """Compare the last measurements of two files.

    Seconds are compared where machine and number of threads are the same, else the percentages of
    each machine's own measured peak.

    Args:
        before: runs of the old file.
        now: runs of the new one.

    Returns:
        One change per row that either file has a time for, in the new file's order.
    """
    old, new = latest_rows(before), latest_rows(now)
    found = []
    for key, (row, run) in new.items():
        if key in old:
            found.append(_change(*old[key], row, run))
        elif row.status == OK:
            found.append(_single(row, NEW))
    return [change for change in found if change is not None]


def _change(old: Row, old_run: Run, new: Row, new_run: Run) -> Change | None:
    if new.status != OK:
        return _single(old, LOST) if old.status == OK else None
    if old.status != OK:
        return _single(new, NEW)
    same_machine = old_run.machine == new_run.machine
    unit = "s" if same_machine else "% of peak"
    before = old.median_s if same_machine else old.percent_of_peak
    now = new.median_s if same_machine else new.percent_of_peak
    if not before or not now:
        return None
    ratio = now / before if same_machine else before / now
    noise = [row.smallest_difference or 0.0 for row in (old, new)]
    # Each is the smallest difference of two runs with this row's noise; together half of each.
    band = max(FLOOR, math.sqrt((noise[0] ** 2 + noise[1] ** 2) / 2))
    verdict = SLOWER if ratio > 1 + band else FASTER if ratio < 1 / (1 + band) else SAME
    return Change(
        case_id=new.case_id,
        contender=new.contender,
        unit=unit,
        before=before,
        now=now,
        ratio=ratio,
        band=band,
        verdict=verdict,
    )


def _single(row: Row, verdict: str) -> Change:
    return Change(
        case_id=row.case_id,
        contender=row.contender,
        unit="s",
        before=row.median_s if verdict == LOST else None,
        now=row.median_s if verdict == NEW else None,
        ratio=None,
        band=None,
        verdict=verdict,
    )
