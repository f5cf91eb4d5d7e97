"""The interpreter's children, which run beside the other tests of this room."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from types import SimpleNamespace

import pytest

_NO_PARAMETERS = SimpleNamespace(params={})
Children = Mapping[tuple[str, ...], "Future[subprocess.CompletedProcess[str]]"]


def interpret(arguments: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
    """Run pytest in Triton's interpreter."""
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *arguments],
        env=os.environ | {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="session", autouse=True)
def children(request: pytest.FixtureRequest) -> Iterator[Children]:
    """What the selected tests with a parameter `child` will wait for, by the words to pytest.

    Started with the room's first test: as many at a time as there are cores.
    """
    words = [
        item.callspec.params["child"]
        for item in request.session.items
        if "child" in getattr(item, "callspec", _NO_PARAMETERS).params
        and not any(mark.args[0] for mark in item.iter_markers("skipif"))
    ]
    # The longest first, so that none is left alone at the end.
    words.sort(key=lambda arguments: "conv" not in " ".join(arguments))
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        yield {arguments: pool.submit(interpret, arguments) for arguments in words}
        pool.shutdown(cancel_futures=True)
