"""What is wrong gets no time."""

from __future__ import annotations

import math

import pytest
import torch

from opensora_fast.bench.gate import (
    Errors,
    errors,
    ours_allowed,
    peer_allowed,
    why_wrong,
)

EXACT = torch.linspace(-3, 3, 1000, dtype=torch.float64)


def test_errors_are_relative() -> None:
    found = errors([(EXACT * 1.001).float()], [EXACT])
    assert found.rel_l2 == pytest.approx(1e-3, rel=1e-3)
    assert found.largest == pytest.approx(3e-3 / float(EXACT.square().mean().sqrt()), rel=1e-3)
    assert errors([EXACT], [EXACT]) == Errors(rel_l2=0.0, largest=0.0)


def test_one_wrong_element_is_seen_by_the_largest_error() -> None:
    out = EXACT.clone()
    out[500] += 1e-3
    found = errors([out], [EXACT])
    assert found.rel_l2 < 2e-5
    assert found.largest > 5e-4
    baseline = Errors(rel_l2=1e-5, largest=1e-5)
    assert "largest error" in str(why_wrong(found, ours_allowed(baseline, "fp32")))


@pytest.mark.parametrize(
    "out",
    [EXACT[:-1], torch.where(EXACT > 2.9, math.nan, EXACT), EXACT.where(EXACT < 2.9, math.inf)],
    ids=["shape", "nan", "inf"],
)
def test_other_shapes_and_numbers_that_are_none_fail(out: torch.Tensor) -> None:
    found = errors([out], [EXACT])
    assert why_wrong(found, peer_allowed("bf16")) is not None


def test_more_outputs_than_exact_ones_fail() -> None:
    assert errors([EXACT, EXACT], [EXACT]).rel_l2 == math.inf
    assert errors([EXACT], [EXACT, EXACT]).rel_l2 == 0.0


def test_ours_may_be_off_by_twice_the_peer_and_no_more() -> None:
    allowed = ours_allowed(Errors(rel_l2=1e-2, largest=5e-2), "bf16")
    assert why_wrong(Errors(rel_l2=2.05e-2, largest=0.1), allowed) is None
    assert "rel_l2 error 0.0301, allowed 0.021" in str(
        why_wrong(Errors(rel_l2=3.01e-2, largest=0.1), allowed)
    )


def test_without_a_peer_the_limit_of_peers_holds() -> None:
    assert ours_allowed(None, "fp32").rel_l2 == peer_allowed("fp32").rel_l2
