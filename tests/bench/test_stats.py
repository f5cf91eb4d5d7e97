"""Order statistics and what they can show."""

from __future__ import annotations

import random

import pytest

from opensora_fast.bench.stats import quantile, speed_up, summarise


def test_quantiles_lie_between_the_samples() -> None:
    samples = [4.0, 1.0, 3.0, 2.0]
    assert quantile(samples, 0.0) == 1.0
    assert quantile(samples, 0.5) == 2.5
    assert quantile(samples, 1.0) == 4.0
    assert quantile([7.0], 0.8) == 7.0


def test_a_summary_ignores_what_one_outlier_says() -> None:
    calm = summarise([1.0, 1.01, 0.99, 1.0, 1.02, 0.98, 1.0, 1.0, 1.01])
    disturbed = summarise([1.0, 1.01, 0.99, 1.0, 50.0, 0.98, 1.0, 1.0, 1.01])
    assert disturbed.median_s == calm.median_s == 1.0
    assert disturbed.smallest_difference < 0.1
    assert (calm.n, calm.min_s) == (9, 0.98)


@pytest.mark.parametrize("samples", [[], [1.0, 0.0], [1.0, float("nan")]])
def test_only_positive_seconds_are_summarised(samples: list[float]) -> None:
    with pytest.raises(ValueError, match="expected positive seconds"):
        summarise(samples)


def test_the_smallest_difference_is_found_about_four_times_in_five() -> None:
    draw = random.Random(3)
    n, sigma, tries = 40, 0.05, 300
    promised = summarise([draw.gauss(1.0, sigma) for _ in range(4000)])
    difference = promised.smallest_difference * (4000 / n) ** 0.5
    threshold = difference * 1.96 / (1.96 + 0.84)
    found = sum(
        quantile([draw.gauss(1.0 + difference, sigma) for _ in range(n)], 0.5)
        - quantile([draw.gauss(1.0, sigma) for _ in range(n)], 0.5)
        > threshold
        for _ in range(tries)
    )
    assert 0.7 < found / tries < 0.9


def test_the_speed_up_of_rounds_cancels_what_disturbs_both() -> None:
    load = [1.0, 3.0, 1.5, 9.0, 1.0]
    median, (low, high), least = speed_up(load, [2 * x for x in load])
    assert median == low == high == least == 2.0
