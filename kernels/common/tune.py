"""Launches that were measured to be best on a device, in a file that `choose` looks into first.

Everything that a launch depends on is a frozen dataclass, so the file is a table: op and problem to
config. Without an entry, or on another device, the pure choice of the op's launch.py stands.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import torch

from .. import cache

SCHEMA: Final = 1
KIND: Final = "tuned"

ConfigT = TypeVar("ConfigT")


@dataclass(frozen=True, slots=True)
class Question:
    """A launch that was asked for, and what could be answered.

    Args:
        op: folder of the kernel.
        problem: of its launch.py, as text.
        default: what `pick` says.
        candidates: configs that can run the problem, the default not needed among them.
    """

    op: str
    problem: str
    default: Any
    candidates: tuple[Any, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """A line of the table; the config as its fields."""

    op: str
    problem: str
    config: Mapping[str, Any]
    seconds: float
    default_seconds: float
    fingerprint: str


_asked: ContextVar[list[Question] | None] = ContextVar("opensora_fast_tune_asked", default=None)
_tried: ContextVar[tuple[str, str, Any] | None] = ContextVar("opensora_fast_tried", default=None)
_tables: dict[torch.device, dict[tuple[str, str], Entry]] = {}
_chosen: dict[tuple[torch.device, str, Any, torch.dtype], Any] = {}


def choose(
    op: str,
    problem: Any,
    like: torch.Tensor,
    default: ConfigT,
    candidates: Callable[[], Sequence[ConfigT]] | None = None,
) -> ConfigT:
    """The launch for a problem: the one that was measured best on this device, or the default.

    Args:
        op: folder of the kernel.
        problem: frozen dataclass of plain values.
        like: a tensor of the device and the dtype that it will run in.
        default: what `pick` says.
        candidates: others that can run it; asked for while tuning only.

    Returns:
        A config of the default's class.
    """
    asked, tried = _asked.get(), _tried.get()
    if asked is not None:
        others = tuple(candidates()) if candidates is not None else ()
        asked.append(Question(op, problem_key(problem, like.dtype), default, others))
        return default
    if tried is not None and tried[:2] == (op, problem_key(problem, like.dtype)):
        config: ConfigT = tried[2]
        return config
    if like.device.type != "cuda":
        return default
    key = (like.device, op, problem, like.dtype)
    if key not in _chosen:
        _chosen[key] = _looked_up(op, problem_key(problem, like.dtype), like.device, default)
    known: ConfigT = _chosen[key]
    return known


def problem_key(problem: Any, dtype: torch.dtype) -> str:
    """A problem as text: its class, the values of its fields and the dtype."""
    fields = dataclasses.asdict(problem)
    fields |= {"class": type(problem).__qualname__, "dtype": str(dtype)}
    return json.dumps(fields, sort_keys=True, default=str)


@contextlib.contextmanager
def asking() -> Iterator[list[Question]]:
    """Write down which launches the ops inside ask for; they get their defaults."""
    asked: list[Question] = []
    token = _asked.set(asked)
    try:
        yield asked
    finally:
        _asked.reset(token)


@contextlib.contextmanager
def trying(question: Question, config: Any) -> Iterator[None]:
    """Answer one question with a config inside the block."""
    token = _tried.set((question.op, question.problem, config))
    try:
        yield
    finally:
        _tried.reset(token)


def entry(question: Question, config: Any, seconds: float, default_seconds: float) -> Entry:
    """A line of the table for a question that was measured."""
    return Entry(
        op=question.op,
        problem=question.problem,
        config=dataclasses.asdict(config),
        seconds=seconds,
        default_seconds=default_seconds,
        fingerprint=cache.fingerprint(question.op, native=False),
    )


def remember(entries: Sequence[Entry], device: torch.device) -> None:
    """Add lines to the device's file; they replace those of the same problem."""
    table = read_table(device) | {(one.op, one.problem): one for one in entries}
    lines = [dataclasses.asdict(table[key]) for key in sorted(table)]
    path = cache.file_of(KIND, device)
    cache.write(path, {"schema": SCHEMA, **cache.identity(device), "entries": lines})
    forget()


def forget() -> None:
    """Drop what this process has read, so that the file is read again."""
    _tables.clear()
    _chosen.clear()


def read_table(device: torch.device) -> dict[tuple[str, str], Entry]:
    """The lines of the device's file that were measured with the sources as they are now."""
    content = cache.read(cache.file_of(KIND, device), SCHEMA)
    found = {}
    for line in content.get("entries", []) if content is not None else []:
        try:
            one = Entry(**line)
        except TypeError:
            continue
        if one.fingerprint == cache.fingerprint(one.op, native=False):
            found[one.op, one.problem] = one
    return found


def _looked_up(op: str, problem: str, device: torch.device, default: ConfigT) -> ConfigT:
    if device not in _tables:
        _tables[device] = read_table(device)
    found = _tables[device].get((op, problem))
    if found is None:
        return default
    try:
        return type(default)(**found.config)
    except TypeError:  # a config of other fields
        return default
