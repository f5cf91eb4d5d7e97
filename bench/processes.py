"""A process per task, so that a crash, a hang or a full memory costs one task and no more."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import multiprocessing
import os
import pickle
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from types import ModuleType
from typing import Any

# Imported once; every task is then forked from there in milliseconds.
_PRELOAD = ["opensora_fast.bench.worker", "torch._dynamo"]
_POLL_S = 0.2
_GRACE_S = 5.0
_STARTING = threading.Lock()  # what is hidden while a process starts is hidden from all threads
_TAIL = 2000
_SET_PARENT_DEATH_SIGNAL = 1  # see prctl(2)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a task.

    Args:
        result: what the function returned.
        failure: why there is no result, in one sentence; None if there is one.
        log: end of what the process printed, for whoever wants to know more.
    """

    result: Any
    failure: str | None
    log: str = ""


def preload(*modules: str) -> None:
    """Import these as well before the first task is run; a missing one is no error."""
    _PRELOAD.extend(module for module in modules if module not in _PRELOAD)


def run_apart(function: Callable[..., Any], *args: Any, timeout_s: float) -> Outcome:
    """Run a function in a process of its own.

    Args:
        function: of a module, so that it can be sent; its result must be picklable.
        *args: likewise.
        timeout_s: after so many seconds the process and what it started are killed.

    Returns:
        The result, or the reason why there is none.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOAD)
    receiver, sender = context.Pipe(duplex=False)
    with tempfile.TemporaryDirectory(prefix="opensora-fast-bench-") as folder:
        log = Path(folder, "log")
        process = context.Process(target=_serve, args=(sender, str(log), function, args))
        with _STARTING, _without_main():
            process.start()
        sender.close()
        try:
            answer = _wait(receiver, timeout_s)
        finally:
            _end(process)
            receiver.close()
        printed = log.read_text(errors="replace")[-_TAIL:] if log.exists() else ""
    if answer is None:
        return Outcome(None, _why_silent(process.exitcode, timeout_s), printed)
    kind, value = answer
    return Outcome(value, None, printed) if kind == "result" else Outcome(None, value, printed)


@contextlib.contextmanager
def _without_main() -> Iterator[None]:
    """Hide the program's main module: every child would import it again, and nothing needs it."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def _wait(receiver: Connection, timeout_s: float) -> tuple[str, Any] | None:
    """The answer, or None after a silent end or the timeout."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if receiver.poll(_POLL_S):
            try:
                answer: tuple[str, Any] = receiver.recv()
            except (EOFError, OSError):
                return None
            return answer
    return None


def _end(process: Any) -> None:
    """Leave nothing running: the process leads a group of its own."""
    process.join(0)
    if process.exitcode is None:
        process.join(_POLL_S)
    if process.pid is not None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    process.join(_GRACE_S)


def _why_silent(exitcode: int | None, timeout_s: float) -> str:
    if exitcode == -signal.SIGKILL:
        # Killed by us at the end of its time, or by a kernel that was out of memory.
        return f"killed: took longer than {timeout_s:.0f} s, or the machine ran out of memory"
    if exitcode is not None and exitcode < 0:
        return f"crashed with {signal.Signals(-exitcode).name}"
    return f"ended without a result (status {exitcode})"


def _serve(sender: Connection, log: str, function: Callable[..., Any], args: Any) -> None:
    """Run in the new process: answer with the result or with a sentence."""
    os.setsid()
    _end_with_parent()
    # What was imported before is no garbage; looking at it would only copy its pages.
    gc.freeze()
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
        os.dup2(descriptor, stream.fileno())
    try:
        answer = ("result", function(*args))
        pickle.dumps(answer)
    except BaseException as error:
        traceback.print_exc()
        answer = ("failure", in_one_line(error))
    with contextlib.suppress(BrokenPipeError):
        sender.send(answer)
    sys.stdout.flush()
    sys.stderr.flush()


def _end_with_parent() -> None:
    """Do not outlive a program that is killed: a GPU would stay busy with nobody's work."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_SET_PARENT_DEATH_SIGNAL, int(signal.SIGKILL))


def in_one_line(error: BaseException, limit: int = 200) -> str:
    """Kind and text of an error, shortened."""
    text = " ".join(str(error).split())
    text = text if len(text) <= limit else text[: limit - 3] + "..."
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
