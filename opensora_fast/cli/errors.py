"""From exceptions to exit statuses: one line for a user's mistake, a traceback for ours."""

from __future__ import annotations

import os
import signal
import sys
import threading
import warnings
from collections.abc import Sequence
from types import FrameType
from typing import NoReturn

import typer

USAGE_ERROR = 2
INTERRUPTED = 130
TERMINATED = 143

# Errors that a sentence of ours carries; others of these types come from a library and are bugs.
_SENTENCES = (ValueError, ImportError, NotImplementedError)
_NO_MEMORY = ("out of memory", "can't allocate memory", "not enough memory")


def run(app: typer.Typer, argv: Sequence[str] | None) -> int:
    """Run a Typer application and turn what it raises into an exit status."""
    with warnings.catch_warnings():
        warnings.showwarning = _show_warning
        return _run(app, argv)


def _show_warning(message: Warning | str, *args: object, **keywords: object) -> None:
    print(f"warning: {_one_line(str(message))}", file=sys.stderr)


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
        if sentence is None:
            raise
        print(f"error: {sentence}", file=sys.stderr)
        return USAGE_ERROR
    if status == INTERRUPTED:
        print("\ninterrupted: no partial file was left", file=sys.stderr)
    # Typer turns Ctrl-C and typer.Exit into a number itself, depending on its version.
    return status if isinstance(status, int) else 0


def users_mistake(error: BaseException) -> str | None:
    """One line that says what the user can change, or None if the error is not the user's."""
    if hasattr(error, "format_message"):  # a usage error, from whichever copy of click
        return _one_line(error.format_message())
    if isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(words in str(error) for words in _NO_MEMORY)
    ):
        return "out of memory: ask for fewer frames or a smaller size, or try --offload cpu"
    if isinstance(error, OSError):
        return _one_line(_os_sentence(error))
    if type(error).__name__ == "BackendError" or isinstance(error, _SENTENCES):
        return _one_line(str(error)) if _is_ours(error) else None
    return None


def _is_ours(error: BaseException) -> bool:
    """Whether the error was raised in this package, so that its text was written for a user."""
    traceback = error.__traceback__
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    # The package, not the name: a verb that was handed over runs as "__main__".
    package = traceback.tb_frame.f_globals.get("__package__") if traceback is not None else None
    return str(package).split(".")[0] == "opensora_fast"


def _os_sentence(error: OSError) -> str:
    if error.strerror is None or error.filename is None:
        return str(error)
    return f"{error.filename}: {error.strerror.lower()}"


def _one_line(text: str) -> str:
    return " ".join(text.split()) or "no reason was given"


def let_termination_clean_up() -> None:
    """Let SIGTERM unwind the stack as Ctrl-C does, so that temporary files are removed."""

    def stop(number: int, frame: FrameType | None) -> NoReturn:
        raise SystemExit(TERMINATED)

    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, stop)
