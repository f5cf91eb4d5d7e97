"""Prompts: the suffixes of the released models, and what is no prompt."""

from __future__ import annotations

import pytest

from opensora_fast.prompts import add_suffixes, check_negative_prompt, check_prompts


@pytest.mark.parametrize(
    ("prompt", "motion_score", "expected"),
    [
        ("raining, sea", 4, "raining, sea. 24 FPS. 4 motion score."),
        ("raining, sea.", 4, "raining, sea. 24 FPS. 4 motion score."),
        ("raining, sea", None, "raining, sea. 24 FPS."),
        ("raining, sea. 30 FPS.", 1, "raining, sea. 30 FPS. 1 motion score."),
        ("it runs at 24 FPS", None, "it runs at 24 FPS."),
        ("it runs at 24 FPS of", None, "it runs at 24 FPS of. 24 FPS."),
    ],
)
def test_suffixes_are_the_originals(prompt: str, motion_score: int | None, expected: str) -> None:
    assert add_suffixes(prompt, 24.0, motion_score) == expected


def test_prompts_are_lists_of_trimmed_texts() -> None:
    assert check_prompts(" a ball ") == ["a ball"]
    assert check_prompts(("a", "b")) == ["a", "b"]
    assert check_negative_prompt("  ") == ""
    assert check_negative_prompt(" blur") == "blur"


@pytest.mark.parametrize("prompt", ["", " ", [], ["a", "\t"], "\ud800"])
def test_what_is_no_prompt(prompt: str | list[str]) -> None:
    with pytest.raises(ValueError, match=r"empty|Unicode"):
        check_prompts(prompt)
