"""Which errors are the user's, and how they are said: one line each, for every command.

Belongs to no room, so that all of them can ask, and imports nothing that takes time.
"""

from __future__ import annotations

import dis
import sys
from types import TracebackType

USAGE_ERROR = 2
INTERRUPTED = 130

# Errors that a sentence of ours carries; others of these types come from a library and are bugs.
_SENTENCES = (ValueError, ImportError, NotImplementedError)
_NO_MEMORY = ("out of memory", "can't allocate memory", "not enough memory")
_LESS_MEMORY = "ask for fewer frames or a smaller size, or try --offload cpu"
_RAISE = dis.opmap["RAISE_VARARGS"]


def users_mistake(error: BaseException, less_memory: str = _LESS_MEMORY) -> str | None:
    """Say what the user can change.

    Args:
        error: what a command raised.
        less_memory: what helps this command where memory runs out.

    Returns:
        One line, or None if the error is a bug.
    """
    if hasattr(error, "format_message"):  # a usage error, from whichever copy of click
        return one_line(error.format_message())
    if isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(words in str(error) for words in _NO_MEMORY)
    ):
        return f"out of memory: {less_memory}"
    if isinstance(error, OSError):
        return one_line(_os_sentence(error))
    if type(error).__name__ == "BackendError" or isinstance(error, _SENTENCES):
        return one_line(str(error)) if _is_ours(error) else None
    return None


def report(error: Exception, less_memory: str = _LESS_MEMORY) -> int:
    """Say on stderr what the user can change, in one line.

    Args:
        error: what a command raised.
        less_memory: as in `users_mistake`.

    Returns:
        The exit status.

    Raises:
        Exception: the error itself, if it is a bug.
    """
    sentence = users_mistake(error, less_memory)
    if sentence is None:
        raise error
    print(f"error: {sentence}", file=sys.stderr)
    return USAGE_ERROR


def one_line(text: str) -> str:
    """The text without line breaks."""
    return " ".join(text.split()) or "no reason was given"


def _is_ours(error: BaseException) -> bool:
    """Whether this package raised the error, so that its text was written for a user."""
    place = error.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    if place is None:
        return False
    # The package, not the name: a verb that was handed over runs as "__main__".
    package = str(place.tb_frame.f_globals.get("__package__")).split(".")[0]
    # A missing library is met by an import statement of ours; all else we say with `raise`.
    return package == "opensora_fast" and (isinstance(error, ImportError) or _by_raise(place))


def _by_raise(place: TracebackType) -> bool:
    """Whether a `raise` was reached, and not a bug that Python answers by itself.

    Failed unpacking, `zip(strict=True)` and `list.index` are ValueErrors too.
    """
    return place.tb_frame.f_code.co_code[place.tb_lasti] == _RAISE


def _os_sentence(error: OSError) -> str:
    if error.strerror is None or error.filename is None:
        return str(error)
    return f"{error.filename}: {error.strerror.lower()}"
