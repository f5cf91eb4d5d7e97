"""Verbs that belong to another room: their arguments go there unread, by module name."""

from __future__ import annotations

import runpy
import sys
from importlib.util import find_spec

PASS_THROUGH = {
    "allow_extra_args": True,
    "ignore_unknown_options": True,
    "help_option_names": [],
    "allow_interspersed_args": False,
}


def hand_over(module: str, arguments: list[str]) -> None:
    """Run `python -m MODULE ARGUMENTS` in this process.

    Raises:
        ImportError: this installation lacks the module.
    """
    if find_spec(f"{module}.__main__") is None:
        raise ImportError(f"this installation lacks {module}, which serves this verb")
    saved = sys.argv
    sys.argv = [module, *arguments]
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    finally:
        sys.argv = saved
