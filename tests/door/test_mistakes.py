"""A user's mistake is said in one line; a bug keeps its traceback."""

from __future__ import annotations

import textwrap

import pytest

from opensora_fast.kernels.registry import BackendError
from opensora_fast.mistakes import users_mistake


def raised_by(source: str, package: str) -> BaseException:
    """What a function with this body raises, as if it lay in a package."""
    namespace = {"__package__": package, "BackendError": BackendError}
    exec(f"def function():\n{textwrap.indent(source, '    ')}", namespace)
    try:
        namespace["function"]()  # type: ignore[operator]
    except Exception as error:
        return error
    raise AssertionError(f"{source} raises nothing")


MISTAKES = {
    "raise ValueError('width 3,\\n  expected 4')": "width 3, expected 4",
    "raise ValueError": "no reason was given",
    "raise NotImplementedError('no such layout')": "no such layout",
    "raise BackendError('forced')": "forced",
    "try:\n    int('x')\nexcept ValueError:\n    raise ValueError('x is no number') from None": (
        "x is no number"
    ),
    "with open('/dev/null'):\n    raise ValueError('inside')": "inside",
    "try:\n    raise ValueError('before')\nfinally:\n    print('cleaning')": "before",
    "import no_such_library": "No module named 'no_such_library'",
}
BUGS = [
    "[].index(1)",
    "a, b = [1]",
    "list(zip([1], [], strict=True))",
    "int('x')",
    "import json; json.loads('{')",
    "with open('/dev/null'):\n    a, b = [1]",
    "{}['x']",
    "raise TypeError('takes one argument')",
    "raise RuntimeError('shape')",
]


@pytest.mark.parametrize(("source", "sentence"), MISTAKES.items())
def test_what_we_raise_is_said(source: str, sentence: str) -> None:
    assert users_mistake(raised_by(source, "opensora_fast.train")) == sentence


@pytest.mark.parametrize("source", BUGS)
def test_what_python_or_a_library_raises_is_a_bug(source: str) -> None:
    assert users_mistake(raised_by(source, "opensora_fast.train")) is None


@pytest.mark.parametrize("source", MISTAKES)
def test_what_others_raise_is_a_bug(source: str) -> None:
    assert users_mistake(raised_by(source, "numpy.core")) is None


def test_the_machines_limits_are_said_wherever_they_are_met() -> None:
    for source in ("raise MemoryError", "raise RuntimeError('CUDA out of memory. Tried ...')"):
        error = raised_by(source, "torch")
        assert users_mistake(error) == (
            "out of memory: ask for fewer frames or a smaller size, or try --offload cpu"
        )
        assert users_mistake(error, "train less") == "out of memory: train less"
    error = raised_by("open('/no/such/file')", "numpy")
    assert users_mistake(error) == "/no/such/file: no such file or directory"


def test_an_error_that_was_never_raised_is_no_mistake() -> None:
    assert users_mistake(ValueError("x")) is None
