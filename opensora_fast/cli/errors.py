"""From exceptions to exit statuses: one line for a user's mistake, a traceback for ours."""

from __future__ import annotations

import _thread
import os
import signal
import sys
import threading
import warnings
from collections.abc import Sequence
from types import FrameType
from typing import NoReturn

import typer

from opensora_fast.mistakes import INTERRUPTED, USAGE_ERROR, one_line, users_mistake

TERMINATED = 143

_interrupted = threading.Event()
_terminated = threading.Event()


def run(app: typer.Typer, argv: Sequence[str] | None) -> int:
    """Run a Typer application and turn what it raises into an exit status."""
    _interrupted.clear()
    _terminated.clear()
    with warnings.catch_warnings():
        warnings.showwarning = _show_warning
        return _run(app, argv)


def _show_warning(message: Warning | str, *args: object, **keywords: object) -> None:
    print(f"warning: {one_line(str(message))}", file=sys.stderr)


def _run(app: typer.Typer, argv: Sequence[str] | None) -> int:
    try:
        status = app(args=None if argv is None else list(argv), standalone_mode=False)
    except (KeyboardInterrupt, typer.Abort):
        status = INTERRUPTED
    except typer.Exit as stop:
        return stop.exit_code
    except BrokenPipeError:
        # The reader of our output is gone (`| head`): nobody is left to hear anything.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        sentence = users_mistake(error)
        # A library may have made an error of its own out of Ctrl-C or SIGTERM.
        if _terminated.is_set():
            return TERMINATED
        if not _interrupted.is_set():
            if sentence is None:
                raise
            print(f"error: {sentence}", file=sys.stderr)
            return USAGE_ERROR
        status = INTERRUPTED
    if status == INTERRUPTED:
        print("\ninterrupted: no partial file was left", file=sys.stderr)
    # Typer turns Ctrl-C and typer.Exit into a number itself, depending on its version.
    return status if isinstance(status, int) else 0


def let_interrupts_through() -> None:
    """Remember Ctrl-C, and let it stop the program also where Python would drop it."""

    def stop(number: int, frame: FrameType | None) -> NoReturn:
        _interrupted.set()
        raise KeyboardInterrupt

    def report(unraisable: sys.UnraisableHookArgs) -> None:
        if issubclass(unraisable.exc_type, KeyboardInterrupt):
            # Raised within a finaliser, where nothing can be raised: once more, outside.
            _thread.interrupt_main()
        else:
            sys.__unraisablehook__(unraisable)

    # A background job that ignores Ctrl-C goes on ignoring it.
    if (
        threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    ):
        signal.signal(signal.SIGINT, stop)
        sys.unraisablehook = report


def let_termination_clean_up() -> None:
    """Let SIGTERM unwind the stack as Ctrl-C does, so that temporary files are removed."""

    def stop(number: int, frame: FrameType | None) -> NoReturn:
        _terminated.set()
        raise SystemExit(TERMINATED)

    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, stop)
