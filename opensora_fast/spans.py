"""Named stretches of work, for whoever watches: the profiler, a marker for a vendor's tool.

Belongs to no room, so that all of them can ask, and imports nothing that takes time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager

Watcher = Callable[[str], AbstractContextManager[None]]

_watchers: list[Watcher] = []


@contextmanager
def span(name: str) -> Iterator[None]:
    """Name what runs inside; costs nothing to speak of while nobody watches."""
    with ExitStack() as stack:
        for watcher in _watchers:
            stack.enter_context(watcher(name))
        yield


@contextmanager
def watched_by(watcher: Watcher) -> Iterator[None]:
    """Tell a watcher of every span that begins inside the block.

    Args:
        watcher: takes the name of a span and returns a context manager that is held during it.
    """
    _watchers.append(watcher)
    try:
        yield
    finally:
        _watchers.remove(watcher)
