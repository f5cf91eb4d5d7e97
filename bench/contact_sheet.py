"""A picture of several clips: one row a clip, frames from left to right."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

GAP = 4  # pixels between frames
PAPER = 255


def contact_sheet(clips: Sequence[np.ndarray], *, columns: int = 6, scale: int = 2) -> np.ndarray:
    """Lay frames of clips out as one picture.

    Args:
        clips: uint8 ``[T, H, W, 3]`` each, all of one size, at least one frame.
        columns: frames shown of each clip, evenly spaced from the first to the last.
        scale: edge of the square that shows one pixel.

    Returns:
        uint8 ``[rows, columns, 3]`` on white.

    Raises:
        ValueError: no clips, or clips of different sizes.
    """
    if not clips or len({clip.shape[1:] for clip in clips}) != 1:
        raise ValueError("contact_sheet: expected at least one clip, and all of one size")
    height, width = (edge * scale for edge in clips[0].shape[1:3])
    sheet = np.full(
        (len(clips) * (height + GAP) - GAP, columns * (width + GAP) - GAP, 3), PAPER, np.uint8
    )
    for row, clip in enumerate(clips):
        shown = np.linspace(0, len(clip) - 1, columns).round().astype(int)
        for column, frame in enumerate(clip[shown]):
            top, left = row * (height + GAP), column * (width + GAP)
            large = frame.repeat(scale, axis=0).repeat(scale, axis=1)
            sheet[top : top + height, left : left + width] = large
    return sheet
