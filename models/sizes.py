"""Output sizes by resolution and aspect ratio, and the number of latent frames."""

from __future__ import annotations

import math
import re

# Width and height of the ratios that have names of their own; each is also known transposed.
_BASE_RATIOS = (
    ("2.39", "1"),
    ("2", "1"),
    ("16", "9"),
    ("1.85", "1"),
    ("9", "16"),
    ("5", "8"),
    ("3", "2"),
    ("4", "3"),
    ("1", "1"),
)
ASPECT_RATIOS = tuple(
    dict.fromkeys(
        name for w, h in _BASE_RATIOS for name in (f"{w}:{h}", f"{h}:{w}")
    )
)  # fmt: skip


def image_size(resolution: str, aspect_ratio: str, multiple: int = 16) -> tuple[int, int]:
    """Height and width of a video at a resolution and an aspect ratio.

    For W:H and a budget of N pixels, `width = floor(sqrt(N W / H) / D) D` and
    `height = floor(N / width / D) D`; a transposed ratio swaps the two.

    Args:
        resolution: "256px" is a budget of 256 * 256 pixels, "720p" of int(720 * 720 * 16 / 9).
        aspect_ratio: width to height, one of `ASPECT_RATIOS`.
        multiple: pixels D of a token's side.

    Returns:
        Height and width in pixels, multiples of `multiple`.

    Raises:
        ValueError: a resolution or ratio that is not known, or one too small for `multiple`.

    Source:
        Open-Sora v2, the table of its inference.
    """
    budget = pixel_budget(resolution)
    name = aspect_ratio.strip()
    ratios = {f"{w}:{h}": (float(w), float(h)) for w, h in _BASE_RATIOS}
    transposed = ":".join(reversed(name.split(":")))
    if name in ratios:
        height, width = _fit(budget, *ratios[name], multiple)
    elif transposed in ratios:
        width, height = _fit(budget, *ratios[transposed], multiple)
    else:
        raise ValueError(
            f"aspect ratio must be one of {', '.join(ASPECT_RATIOS)} (width:height), "
            f"got {aspect_ratio!r}"
        )
    if height < multiple or width < multiple:
        raise ValueError(
            f"{resolution} at {aspect_ratio} is smaller than one token of {multiple} pixels"
        )
    return height, width


def pixel_budget(resolution: str) -> int:
    """Pixels that a resolution such as "256px" or "720p" stands for.

    Args:
        resolution: a number followed by "px" (edge of a square) or "p" (height at 16:9).

    Returns:
        The number of pixels.

    Raises:
        ValueError: another form.
    """
    match = re.fullmatch(r"\s*([1-9]\d*)(px|p)\s*", resolution)
    if match is None:
        raise ValueError(f'resolution must look like "256px" or "720p", got {resolution!r}')
    side = int(match[1])
    return side * side if match[2] == "px" else int(side * side * 16 / 9)


def latent_frames(num_frames: int, time_ratio: int = 4, causal: bool = True) -> int:
    """Latent frames of a video.

    Args:
        num_frames: pixel frames.
        time_ratio: pixel frames per latent frame.
        causal: the first frame has a latent of its own.

    Returns:
        `(T - 1) // ratio + 1` if causal, else `T // ratio`; one for a single frame.
    """
    if num_frames == 1:
        return 1
    return (num_frames - 1) // time_ratio + 1 if causal else num_frames // time_ratio


def _fit(budget: int, width: float, height: float, multiple: int) -> tuple[int, int]:
    """Height and width of the largest size of a ratio within the budget, rounded down."""
    columns = int(math.sqrt(budget * width / height) // multiple * multiple)
    if columns == 0:
        return 0, 0
    return int(budget / columns // multiple * multiple), columns
