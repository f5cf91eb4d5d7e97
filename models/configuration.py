"""What every configuration shares: reading from a mapping, writing, and checking its numbers."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping
from typing import Any, TypeVar

ConfigT = TypeVar("ConfigT")


def config_from_dict(config_class: type[ConfigT], values: Mapping[str, Any]) -> ConfigT:
    """Build a configuration from a mapping, e.g. parsed JSON; fields left out keep their default.

    Args:
        config_class: a configuration dataclass.
        values: field name to value; lists stand for tuples.

    Returns:
        The configuration, checked by its own `__post_init__`.

    Raises:
        ValueError: a name that is no field (the nearest field is named), or a value it rejects.
    """
    fields = [field.name for field in dataclasses.fields(config_class)]  # type: ignore[arg-type]
    for name in values:
        if name not in fields:
            near = difflib.get_close_matches(name, fields, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; its fields are {fields}"
            raise ValueError(f"{config_class.__name__} has no field {name!r}{hint}")
    return config_class(**values)


def config_to_dict(config: Any) -> dict[str, Any]:
    """Return the fields of a configuration as JSON-ready values (tuples become lists).

    Args:
        config: a configuration dataclass instance.

    Returns:
        Field name to value; `config_from_dict` reads it back to an equal configuration.
    """
    values = dataclasses.asdict(config)
    return {name: list(v) if isinstance(v, tuple) else v for name, v in values.items()}


def as_int_tuple(config: Any, *names: str) -> None:
    """Store the named sequence fields of a frozen configuration as tuples of int."""
    for name in names:
        value = getattr(config, name)
        if isinstance(value, (str, bytes)) or not hasattr(value, "__iter__"):
            raise ValueError(
                f"{type(config).__name__}.{name} must be a list of integers, got {value!r}"
            )
        object.__setattr__(config, name, tuple(int(item) for item in value))


def require_positive(config: Any, *names: str) -> None:
    """Raise ValueError unless each named field (or each item of it) is greater than zero."""
    for name in names:
        value = getattr(config, name)
        items = value if isinstance(value, tuple) else (value,)
        if not items or any(item <= 0 for item in items):
            raise ValueError(f"{type(config).__name__}.{name} must be positive, got {value!r}")
