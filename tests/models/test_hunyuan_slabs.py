"""The HunyuanVAE in slabs of rows: what is computed in parts, and how often, changes nothing."""

from __future__ import annotations

import functools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from opensora_fast.kernels.footprint import peak_bytes
from opensora_fast.models import HunyuanVAE, HunyuanVAEConfig
from opensora_fast.models.hunyuan_vae.within import Search, Step, all_steps, run

CONFIG = HunyuanVAEConfig(
    block_out_channels=(8, 8, 16, 16), layers_per_block=1, norm_num_groups=4, latent_channels=4
)
CLOSE = {"rtol": 1e-4, "atol": 1e-4}


@functools.cache
def model() -> HunyuanVAE:
    torch.manual_seed(0)
    return HunyuanVAE(CONFIG).eval()


def noise(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


def shapes_of(task: str, shape: tuple[int, ...]) -> list[tuple[int, ...]]:
    shapes = [shape]
    for link in model()._links(task):
        shapes.append(link.shape(shapes[-1]))
    return shapes


def whole(task: str, x: Tensor) -> Tensor:
    """The video, or the posterior's moments."""
    return model()._at_once(x, task)


def in_steps(task: str, x: Tensor, steps: list[Step]) -> Tensor:
    into = torch.empty(shapes_of(task, tuple(x.shape))[-1])
    run(model()._links(task), steps, x, into)
    return into


def one_mode(task: str, x: Tensor, mode: str, rows: int, reach: int) -> list[Step]:
    """Steps of one mode, of so many links and rows where there are such."""
    links, shapes = model()._links(task), shapes_of(task, tuple(x.shape))
    found = [step for step in all_steps(links, shapes, 4) if step.mode in ("whole", mode)]
    steps, at = [], 0
    while at < len(links):
        there = [step for step in found if step.start == at and step.end <= at + reach]
        at_best = max(there, key=lambda step: (step.mode != "whole", step.end, -step.rows))
        steps.append(Step(**{name: getattr(at_best, name) for name in Step.__dataclass_fields__}))
        if steps[-1].rows:
            steps[-1] = _with_rows(steps[-1], rows)
        at = steps[-1].end
    return steps


def _with_rows(step: Step, rows: int) -> Step:
    fields = {name: getattr(step, name) for name in Step.__dataclass_fields__}
    return Step(**(fields | {"rows": rows}))


@torch.no_grad()
@pytest.mark.parametrize("task", ["decode", "encode"])
@settings(deadline=None, max_examples=8, derandomize=True)
@given(
    st.integers(1, 30),
    st.sampled_from([("over", 1), ("slabs", 1), ("slabs", 2), ("slabs", 99)]),
    st.sampled_from([1, 2, 5, 9]),
    st.sampled_from([1, 2, 3]),
)
def test_slabs_of_any_height_change_nothing(task, rows, way, frames, height) -> None:
    size = (3, frames, 8 * height + 1, 9) if task == "encode" else (4, (frames + 3) // 4, height, 2)
    x = noise(1, *size)
    steps = one_mode(task, x, way[0], rows, way[1])
    assert any(step.mode == way[0] for step in steps)
    torch.testing.assert_close(in_steps(task, x, steps), whole(task, x), **CLOSE)


@torch.no_grad()
@pytest.mark.parametrize(("task", "shape"), [("decode", (4, 2, 4, 4)), ("encode", (3, 5, 32, 32))])
def test_a_budget_is_kept_and_changes_nothing(task, shape) -> None:
    with torch.device("meta"):
        twin = HunyuanVAE(CONFIG)
    x = noise(2, *shape)
    empty = torch.empty_like(x, device="meta")
    options = {} if task == "decode" else {"sample_posterior": False}

    def peak(budget: int | None) -> int:
        return peak_bytes(lambda: getattr(twin, task)(empty, **options, memory_budget=budget))

    expected, all_at_once = getattr(model(), task)(x, **options), peak(None)
    for share in (1.0, 0.45, 0.25):
        budget = int(share * all_at_once)
        found = getattr(model(), task)(x, **options, memory_budget=budget)
        torch.testing.assert_close(found, expected, **CLOSE)
        assert peak(budget) <= budget
    with pytest.raises(ValueError, match="memory_budget is 1,000 bytes, the least that") as error:
        getattr(model(), task)(x, **options, memory_budget=1000)
    least = int(str(error.value).split()[-1].replace(",", ""))
    found = getattr(model(), task)(x, **options, memory_budget=least)
    torch.testing.assert_close(found, expected, **CLOSE)
    with pytest.raises(ValueError, match=f"the least that .* is {least:,}"):
        getattr(model(), task)(x, **options, memory_budget=least - 1)


def test_less_memory_costs_more_work() -> None:
    with torch.device("meta"):
        links = HunyuanVAE(CONFIG)._links("decode")
    work, steps = [], []
    search = Search(links, (1, 4, 2, 4, 16), torch.float32)
    for budget in (2_000_000, 1_000_000, 700_000):
        steps.append(search.within(budget))
        assert steps[-1][-1].end == len(links)
        work.append(sum(step.cost for step in steps[-1]))
    assert work[0] < work[1] < work[2]
    assert all(step.mode == "whole" for step in steps[0])


@torch.no_grad()
def test_the_posterior_is_drawn_within_a_budget_as_without() -> None:
    x = noise(1, 3, 5, 16, 16)
    drawn = [
        model().encode(x, generator=torch.Generator().manual_seed(3), memory_budget=budget)
        for budget in (None, 10**9, 150_000)
    ]
    assert torch.equal(drawn[0], drawn[1])
    torch.testing.assert_close(drawn[2], drawn[0], **CLOSE)
