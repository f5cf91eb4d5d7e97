"""Prompts: what is accepted, and the suffixes that the released models were trained with."""

from __future__ import annotations

import re
from collections.abc import Sequence

_ENDS_WITH_FPS = re.compile(r"\d+ FPS\.$")


def check_prompts(prompt: str | Sequence[str]) -> list[str]:
    """Return the prompts as a list of non-empty texts.

    Args:
        prompt: one text or several.

    Returns:
        The texts, without surrounding white space.

    Raises:
        TypeError: not text.
        ValueError: no prompt, an empty one, or one that is no valid Unicode.
    """
    prompts = [prompt] if isinstance(prompt, str) else list(prompt)
    if not prompts:
        raise ValueError("the list of prompts is empty: give at least one prompt")
    return [_checked(text) for text in prompts]


def check_negative_prompt(text: str) -> str:
    """Return the negative prompt, which may be empty; raises as `check_prompts` does."""
    return _checked(text) if not isinstance(text, str) or text.strip() else ""


def add_suffixes(prompt: str, fps: float, motion_score: int | None) -> str:
    """Append the frame rate and the motion score the way the released models saw them.

    `raining, sea` becomes `raining, sea. 24 FPS. 4 motion score.`

    Args:
        prompt: the text; a full stop is added if it ends without one.
        fps: frames per second, left out if the text already ends with "<n> FPS."
        motion_score: the FFmpeg VMAF motion value, about 1 (still) to 15; None adds nothing.

    Returns:
        The text for the encoders.

    Source:
        The original's inference script.
    """
    prompt = prompt if prompt.endswith(".") else f"{prompt}."
    if not _ENDS_WITH_FPS.search(prompt):
        prompt = f"{prompt} {round(fps)} FPS."
    return prompt if motion_score is None else f"{prompt} {motion_score} motion score."


def _checked(text: str) -> str:
    if not isinstance(text, str):
        raise TypeError(f"a prompt must be text, got {type(text).__name__}")
    if not text.strip():
        raise ValueError("the prompt is empty: describe the video in a few words")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError(f"the prompt is not valid Unicode: {text!r}") from None
    return text.strip()
