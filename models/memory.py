"""Choosing how to work so that memory stays within a bound and little is repeated."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import _disable_current_modes

from opensora_fast.kernels.footprint import peak_bytes

# For a search: whoever counts what a computation does or holds is not shown what is only tried.
unwatched = _disable_current_modes

ModelT = TypeVar("ModelT", bound=nn.Module)

# Computes a result with so many rows at a time.
Run = Callable[[int], Tensor]


@functools.lru_cache(maxsize=4)
def twin_of(model_class: Callable[[Any], ModelT], config: Any, dtype: torch.dtype) -> ModelT:
    """A model without values, to try on; kept, because trials of a model follow each other.

    Args:
        model_class: of the model.
        config: of the model.
        dtype: of its parameters.

    Returns:
        The model on the meta device.
    """
    with torch.device("meta"):
        return model_class(config).to(dtype)


def rows_within(run: Run, height: int, budget: int) -> tuple[int | None, int]:
    """Find how many rows at a time keep a computation within a bound on memory.

    Tried on the meta device, where nothing is computed.

    Args:
        run: the computation on the meta device.
        height: rows that there are.
        budget: bytes that tensors may hold at one time, the result included; inputs and parameters
            come on top.

    Returns:
        Rows of a slab, None if not even one fits; bytes that these, or the one, hold.
    """
    # All, and 3/4, 1/2, 3/8, 1/4, 3/16, ... of them. Fewer rows never hold more.
    halves = [height // 2**k for k in range(height.bit_length())]
    options = sorted({*halves, *(3 * rows // 4 for rows in halves)} - {0})
    needed = peak_bytes(functools.partial(run, options[0]))
    if needed > budget:
        return None, needed
    found, first, end = options[0], 1, len(options)
    while first < end:
        middle = (first + end) // 2
        held = peak_bytes(functools.partial(run, options[middle]))
        if held <= budget:
            found, needed, first = options[middle], held, middle + 1
        else:
            end = middle
    return found, needed


@dataclass(frozen=True, kw_only=True, slots=True)
class Edge:
    """One way to get from one state of a computation to a later one.

    Args:
        start: number of the state.
        end: number of the later one.
        cost: work that it is.
        least: bytes that it holds at least; how many it does is measured.
    """

    start: int
    end: int
    cost: float
    least: int


EdgeT = TypeVar("EdgeT", bound=Edge)


def cheapest_path(
    edges: Sequence[EdgeT],
    end: int,
    budget: int,
    estimate: Callable[[EdgeT], int],
    measure: Callable[[EdgeT], int],
) -> list[EdgeT] | None:
    """Find the way from state 0 to the last that costs least within a bound on memory.

    Args:
        edges: between states.
        end: number of the last state.
        budget: bytes that no edge may exceed.
        estimate: bytes that an edge holds, about; asked only of those that would be taken.
        measure: bytes that it does hold; asked only where the estimates keep within the bound.

    Returns:
        Edges from the first to the last; None: no way keeps within the bound.
    """
    fitting = [edge for edge in edges if edge.least <= budget]
    while True:
        path = _best_path(fitting, end, lambda so_far, edge: so_far + edge.cost)
        if path is None:
            return None
        too_large = [edge for edge in path if estimate(edge) > budget]
        too_large = too_large or [edge for edge in path if measure(edge) > budget]
        if not too_large:
            return path
        fitting = [edge for edge in fitting if edge not in too_large]


def least_bound(
    edges: Sequence[EdgeT],
    end: int,
    estimate: Callable[[EdgeT], int],
    measure: Callable[[EdgeT], int],
) -> int:
    """Find the least bound that some way from state 0 to the last keeps within.

    Args:
        edges: between states.
        end: number of the last state, which some way reaches.
        estimate: bytes that an edge holds, about.
        measure: bytes that it does hold.

    Returns:
        Bytes.
    """
    known: dict[EdgeT, int] = {}
    certain: set[EdgeT] = set()
    while True:
        path = _best_path(edges, end, lambda so_far, edge: max(so_far, known.get(edge, edge.least)))
        assert path is not None, f"no way leads to {end}"
        if unknown := [edge for edge in path if edge not in known]:
            known.update((edge, estimate(edge)) for edge in unknown)
        elif unknown := [edge for edge in path if edge not in certain]:
            known.update((edge, measure(edge)) for edge in unknown)
            certain.update(unknown)
        else:
            return max(known[edge] for edge in path)


def _best_path(
    edges: Sequence[EdgeT], end: int, total: Callable[[float, EdgeT], float]
) -> list[EdgeT] | None:
    """The way whose total is least, where `total` extends that of a way by an edge."""
    best: dict[int, tuple[float, list[EdgeT]]] = {0: (0.0, [])}
    for edge in sorted(edges, key=lambda edge: edge.start):
        if edge.start not in best:
            continue
        so_far, path = best[edge.start]
        reached = total(so_far, edge)
        if edge.end not in best or reached < best[edge.end][0]:
            best[edge.end] = reached, [*path, edge]
    return best[end][1] if end in best else None


def too_small(name: str, budget: int, needed: int) -> ValueError:
    """What to raise where a bound on memory cannot be kept.

    Args:
        name: of the computation.
        budget: bytes that it may hold.
        needed: the least that it can be done with.

    Returns:
        The error.
    """
    return ValueError(
        f"{name}: memory_budget is {budget:,} bytes, the least that this size can be done with is "
        f"{needed:,}"
    )
