"""The checks of check_op fail when they should."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from opensora_fast.kernels.gate_residual import cases
from opensora_fast.kernels.registry import OPS
from opensora_fast.kernels.testing import (
    assert_as_accurate,
    check_op,
    guarded_output,
    poisoned_memory,
    relaid,
)

NAME = "gate_residual"
CASE = cases.CHECK[0]


def correct(x, gate, branch):
    return torch.addcmul(x, gate[:, None], branch)


def off_by_a_little(x, gate, branch):
    y = correct(x, gate, branch)
    y[0, 0, 0] += 1e-4
    return y


def not_a_number(x, gate, branch):
    y = correct(x, gate, branch)
    y[-1, -1, -1] = torch.nan
    return y


def wrong_strides(x, gate, branch):
    return correct(x, gate, branch).transpose(1, 2).contiguous().transpose(1, 2)


def wrong_dtype(x, gate, branch):
    return correct(x, gate, branch).to(torch.float64)


def overwrites_an_input(x, gate, branch):
    y = correct(x, gate, branch)
    branch.mul_(2)
    return y


class Unsteady:
    runs = 0

    def __call__(self, x, gate, branch):
        self.runs += 1
        return correct(x, gate, branch).mul_(1 + 1e-7 * (self.runs % 2))


def leaves_a_hole(x, gate, branch):
    y = torch.empty(x.shape)
    y.view(-1)[:-1] = correct(x, gate, branch).view(-1)[:-1]
    # Where memory happens to be clean, the hole goes unseen by the comparison of values.
    if not bool(y.isnan().any()):
        y.view(-1)[-1] = correct(x, gate, branch).view(-1)[-1]
    return y


def writes_behind(x, gate, branch):
    y = torch.empty(x.shape)
    y.copy_(correct(x, gate, branch))
    room = y.untyped_storage().nbytes() // 4 - y.storage_offset() - y.numel()
    if room > 0:
        y.as_strided((1,), (1,), y.storage_offset() + y.numel()).zero_()
    return y


def run_with(monkeypatch, run):
    op = OPS[NAME]
    rows = [
        dataclasses.replace(row, run=run) if row.name == "torch" else row for row in op.backends
    ]
    monkeypatch.setattr(op, "backends", tuple(rows))
    # The dispatcher holds its own copy of the table: give the op a plain call.
    monkeypatch.setattr(op, "overload", lambda *args: plain(op, *args))
    check_op(NAME, CASE, backend="torch")


def plain(op, *args):
    return op.fake(*args) if args[0].device.type == "meta" else op.choose(*args).run(*args)


def test_a_correct_backend_passes(monkeypatch):
    run_with(monkeypatch, correct)


@pytest.mark.parametrize(
    ("run", "message"),
    [
        (off_by_a_little, r"1 of \d+ elements are too far off; worst at \[0, 0, 0\]"),
        (not_a_number, r"worst at \[2, 6, 47\]: nan"),
        (wrong_strides, "strides"),
        (wrong_dtype, "dtype"),
        (overwrites_an_input, "second run gave other bits|was changed"),
        (Unsteady(), "second run gave other bits"),
        (leaves_a_hole, "unwritten memory"),
        (writes_behind, "behind an allocation by aten.empty"),
    ],
    ids=lambda value: getattr(value, "__name__", type(value).__name__),
)
def test_a_wrong_backend_fails(monkeypatch, run, message):
    with pytest.raises(AssertionError, match=message):
        run_with(monkeypatch, run)


def test_accuracy_bound_is_twice_the_reference_and_a_floor():
    exact = torch.tensor([1.0, -2.0], dtype=torch.float64)
    naive = torch.tensor([1.0, -2.0]) + torch.tensor([1e-3, 0.0])
    assert_as_accurate(torch.tensor([1.0, -2.0019]), exact, naive)
    with pytest.raises(AssertionError, match=r"worst at \[1\]"):
        assert_as_accurate(torch.tensor([1.0, -2.0021]), exact, naive)
    assert_as_accurate(torch.tensor([1.0, -2.0021]), exact, naive, slack=1e-3)
    with pytest.raises(AssertionError, match="shape"):
        assert_as_accurate(torch.ones(3), exact, naive)


def test_poisoned_memory_is_nan_inside_the_block_only():
    with poisoned_memory():
        assert torch.empty(5).isnan().all()
        assert torch.are_deterministic_algorithms_enabled()
    assert not torch.are_deterministic_algorithms_enabled()


def test_guard_finds_writes_on_both_sides():
    for start in (-1, 10):
        with pytest.raises(AssertionError, match="overwritten"), guarded_output():
            x = torch.empty(10, dtype=torch.bfloat16)
            x.as_strided((1,), (1,), x.storage_offset() + start).fill_(1.0)
    with guarded_output():
        x = torch.empty((2, 3)).fill_(1.0)
        assert x.is_contiguous() and x.sum() == 6


@pytest.mark.parametrize("layout", ["contiguous", "channels_last", "sliced"])
def test_relaid_keeps_values(layout):
    x = torch.randn(2, 3, 4, 5, 6)
    y = relaid(x, layout)
    assert torch.equal(x, y)
    assert (layout == "contiguous") == (x.stride() == y.stride())


def test_relaid_refuses_unknown_layouts():
    with pytest.raises(ValueError, match="unknown layout 'nhwc'"):
        relaid(torch.ones(1), "nhwc")
