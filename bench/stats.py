"""What repeated measurements say: order statistics, and how small a change they could show."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

# Two-sided 5 % error of the first kind, 20 % of the second.
_DETECTION = 1.96 + 0.84
# Standard error of a median over that of a mean, for normal noise.
_MEDIAN_EFFICIENCY = math.sqrt(math.pi / 2)
# Distance of the 20th and 80th percentile of a normal distribution, in standard deviations.
_P20_TO_P80 = 1.6832


@dataclass(frozen=True, kw_only=True, slots=True)
class Summary:
    """Seconds of one contender.

    Args:
        n: samples.
        median_s: their median.
        min_s: their smallest.
        p20_s: their 20th percentile.
        p80_s: their 80th percentile.
    """

    n: int
    median_s: float
    min_s: float
    p20_s: float
    p80_s: float

    @property
    def spread(self) -> float:
        """Distance of p20 and p80, relative to the median."""
        return (self.p80_s - self.p20_s) / self.median_s

    @property
    def smallest_difference(self) -> float:
        """Smallest relative change of the median that a second run of this length would show.

        `(z_0.975 + z_0.8) sqrt(2) sqrt(pi / 2) sigma / (sqrt(n) median)`, sigma from p20 and p80,
        so that a few outliers do not count.
        """
        sigma = (self.p80_s - self.p20_s) / _P20_TO_P80
        error = _MEDIAN_EFFICIENCY * sigma / math.sqrt(self.n)
        return _DETECTION * math.sqrt(2) * error / self.median_s


def summarise(samples: Sequence[float]) -> Summary:
    """Order statistics of some samples.

    Args:
        samples: seconds, at least one, all positive.

    Returns:
        The summary.

    Raises:
        ValueError: no samples, or one that is not positive.
    """
    if not samples or not all(sample > 0 for sample in samples):
        raise ValueError(f"summarise: expected positive seconds, got {list(samples)[:5]}")
    return Summary(
        n=len(samples),
        median_s=quantile(samples, 0.5),
        min_s=min(samples),
        p20_s=quantile(samples, 0.2),
        p80_s=quantile(samples, 0.8),
    )


def quantile(samples: Sequence[float], share: float) -> float:
    """Quantile with linear interpolation between the order statistics."""
    ordered = sorted(samples)
    place = share * (len(ordered) - 1)
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])


def speed_up(
    ours: Sequence[float], theirs: Sequence[float]
) -> tuple[float, tuple[float, float], float]:
    """How many times faster one side of an interleaved measurement is.

    Args:
        ours: seconds, one per round.
        theirs: seconds of the other side in the same rounds.

    Returns:
        Ratio of the medians; 20th and 80th percentile of the ratios of the rounds, which share
        their disturbances; ratio of the minima.
    """
    rounds = [b / a for a, b in zip(ours, theirs, strict=True)]
    median = quantile(theirs, 0.5) / quantile(ours, 0.5)
    return median, (quantile(rounds, 0.2), quantile(rounds, 0.8)), min(theirs) / min(ours)
