"""The stages of a run: each is timed and shown as a progress bar."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any

import torch

from opensora_fast.spans import span


class Stages:
    """Run work stage by stage: seconds into `timings`, progress bars onto stderr.

    Args:
        device: whose queued work belongs to the stage that queued it.
        progress: show bars (only on a terminal; a pipe stays silent).
    """

    def __init__(self, device: torch.device, progress: bool) -> None:
        self.timings: dict[str, float] = {}
        self._device = device
        self._bars = _progress_bars() if progress else None

    def __enter__(self) -> Stages:
        if self._bars is not None:
            self._bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._bars is not None:
            self._bars.stop()

    @contextmanager
    def stage(self, name: str, total: int) -> Iterator[Callable[[], None]]:
        """Time what runs inside; the yielded function moves the bar by one of `total`."""
        bars = self._bars
        task = None if bars is None else bars.add_task(name, total=total)

        def advance() -> None:
            if bars is not None:
                bars.advance(task)

        start = time.perf_counter()
        with span(name):
            yield advance
            if self._device.type == "cuda":
                torch.cuda.synchronize(self._device)
        self.timings[name] = time.perf_counter() - start


def _progress_bars() -> Any:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    return Progress(
        TextColumn("{task.description:<8}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
        disable=not console.is_terminal,
    )
