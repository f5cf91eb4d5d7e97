"""`section.field=value` on the command line: parsed by the field's type."""

from __future__ import annotations

import dataclasses
import difflib
import re
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

ConfigT = TypeVar("ConfigT")

_OVERRIDE = re.compile(r"([A-Za-z_]\w*)\.([A-Za-z_]\w*)=(.*)", re.DOTALL)
_EXPECTED = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}
_TRUTH = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


def split_words(words: Iterable[str]) -> tuple[list[str], list[str]]:
    """Part positional words into plain ones and those of the form `section.field=value`."""
    plain: list[str] = []
    overrides: list[str] = []
    for word in words:
        (overrides if _OVERRIDE.fullmatch(word) else plain).append(word)
    return plain, overrides


def apply_overrides(config: ConfigT, section: str, overrides: Sequence[str]) -> ConfigT:
    """Replace fields of a configuration.

    Args:
        config: a dataclass instance.
        section: its name on the command line.
        overrides: words `section.field=value`.

    Returns:
        The changed configuration, checked by its own `__post_init__`.

    Raises:
        ValueError: another section, an unknown field (the nearest name is given), or a value that
            the field's type does not accept.
    """
    hints = typing.get_type_hints(type(config))
    values: dict[str, Any] = {}
    for word in overrides:
        match = _OVERRIDE.fullmatch(word)
        if match is None:
            raise ValueError(f"expected section.field=value, got {word!r}")
        given_section, name, text = match.groups()
        if given_section != section:
            raise ValueError(f"there is no section {given_section!r} in {word!r}; use {section!r}")
        if name not in hints:
            raise ValueError(f"there is no field {section}.{name}{_nearest(name, hints)}")
        values[name] = parse_value(f"{section}.{name}", hints[name], text)
    return dataclasses.replace(config, **values)  # type: ignore[type-var]


def parse_value(name: str, hint: Any, text: str) -> Any:
    """Parse `text` as the annotated type: bool, int, float, str, or one of them and None.

    Raises:
        ValueError: the text is not a value of the type, or the type has no value of one word.
    """
    kinds = typing.get_args(hint) if _is_union(hint) else (hint,)
    if type(None) in kinds and text.lower() == "none":
        return None
    kind = next(kind for kind in kinds if kind is not type(None))
    if kind not in _EXPECTED:
        raise ValueError(f"{name} has parts and cannot be given as one word, got {text!r}")
    try:
        return _TRUTH[text.lower()] if kind is bool else kind(text)
    except (KeyError, ValueError):
        raise ValueError(f"{name} must be {_EXPECTED[kind]}, got {text!r}") from None


def _is_union(hint: Any) -> bool:
    return typing.get_origin(hint) in (typing.Union, types.UnionType)


def _nearest(name: str, known: Mapping[str, Any]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {near[0]!r}?" if near else f"; there are {', '.join(known)}"
