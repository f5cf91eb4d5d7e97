"""Judge clips of the tiny model's language by their pixels only.

Palette segmentation gives ground and colour, the filled share of the bounding box gives the shape,
the path of the centroid and the change of width give the motion. Nothing here looks at a network.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from opensora_fast.train.shapes import COLORS, GROUNDS, Scene

# On rendered clips the filled share of the box is at most 0.59 for triangles (their tips are thin),
# 0.75 to 0.82 for discs and 1.0 for squares; the bounds lie in the gaps.
FILL_SQUARE, FILL_CIRCLE = 0.87, 0.67
MIN_FILL = 0.35  # below this it is specks all over the frame, no shape
GROWTH_THRESHOLD = 1.3  # ratio of widths; the language promises at least 1.6
MOVE_THRESHOLD = 0.12  # in frame edges; the language promises at least 0.25
MIN_AREA = 0.004  # share of the frame; below this there is no shape
MAX_BORDER = 0.25  # share of the frame's border; above this there is no ground


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """What the pixels of one clip show; None where there is nothing to see."""

    color: str | None
    shape: str | None
    motion: str | None
    ground: str

    def matches(self, scene: Scene) -> dict[str, bool]:
        """Agreement with a sentence, by attribute."""
        found = {
            name: getattr(self, name) == getattr(scene, name)
            for name in ("color", "shape", "motion", "ground")
        }
        return found | {"all": found["color"] and found["shape"] and found["motion"]}


def _nearest(palette: dict[str, tuple[int, int, int]], color: np.ndarray) -> str:
    names = list(palette)
    distances = np.linalg.norm(np.asarray([palette[n] for n in names], np.float64) - color, axis=1)
    return names[int(distances.argmin())]


def _boxes(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Centroid (x, y), box width and height, and area of each frame's mask, in pixels."""
    centres: list[tuple[float, float]] = []
    sizes: list[tuple[float, float]] = []
    areas: list[int] = []
    for frame in mask:
        y, x = np.nonzero(frame)
        areas.append(len(x))
        if len(x) == 0:
            centres.append((np.nan, np.nan))
            sizes.append((0.0, 0.0))
            continue
        centres.append((float(x.mean()), float(y.mean())))
        sizes.append((float(np.ptp(x)) + 1.0, float(np.ptp(y)) + 1.0))
    return np.asarray(centres), np.asarray(sizes, float), np.asarray(areas, float)


def _without_specks(mask: np.ndarray) -> np.ndarray:
    """Keep, in each frame, pixels of well filled 3x3 squares: drops specks, keeps outlines."""
    padded = np.pad(mask.astype(np.int8), ((0, 0), (1, 1), (1, 1)))
    height, width = mask.shape[1:]
    around = sum(padded[:, i : i + height, j : j + width] for i in range(3) for j in range(3))
    return mask & (around >= 4)


def _motion(centres: np.ndarray, widths: np.ndarray, edge: int) -> str:
    ends = max(1, len(widths) // 6)  # average the first and the last frames against noise
    growth = widths[-ends:].mean() / widths[:ends].mean()
    if growth >= GROWTH_THRESHOLD:
        return "grows"
    if growth <= 1.0 / GROWTH_THRESHOLD:
        return "shrinks"
    dx, dy = (centres[-ends:].mean(axis=0) - centres[:ends].mean(axis=0)) / edge
    if max(abs(dx), abs(dy)) < MOVE_THRESHOLD:
        return "stays still"
    if abs(dx) > abs(dy):
        return "moves to the right" if dx > 0 else "moves to the left"
    return "moves down" if dy > 0 else "moves up"


def _border(video: np.ndarray) -> np.ndarray:
    """The outermost pixels of ``[T, H, W, ...]`` as ``[T, L, ...]``."""
    return np.concatenate([video[:, 0], video[:, -1], video[:, :, 0], video[:, :, -1]], axis=1)


def _shape(fill: float) -> str | None:
    """The shape that fills so much of its bounding box."""
    if fill < MIN_FILL:
        return None
    return "square" if fill > FILL_SQUARE else "circle" if fill > FILL_CIRCLE else "triangle"


def judge(frames: np.ndarray) -> Verdict:
    """Read ground, colour, shape and motion off a clip.

    Args:
        frames: uint8 ``[T, H, W, 3]``.

    Returns:
        What is to be seen.

    Raises:
        ValueError: the array is no clip.
    """
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[-1] != 3 or not frames.size:
        raise ValueError(
            f"judge: expected uint8 [T, H, W, 3], got {frames.dtype} {list(frames.shape)}"
        )
    pixels = frames.astype(np.float64)
    ground_color = np.median(_border(pixels).reshape(-1, 3), axis=0)
    ground = _nearest(GROUNDS, ground_color)
    distance = np.linalg.norm(pixels - ground_color, axis=-1)
    strongest = np.quantile(distance.reshape(len(distance), -1), 0.99, axis=1).max()
    mask = _without_specks(distance > max(0.5 * strongest, 25.0))
    centres, sizes, areas = _boxes(mask)
    if (areas < MIN_AREA * mask[0].size).any() or _border(mask).mean() > MAX_BORDER:
        return Verdict(color=None, shape=None, motion=None, ground=ground)
    core = mask & (distance > 0.8 * strongest)  # without the blended outline
    color = _nearest(COLORS, np.median(pixels[core if core.any() else mask], axis=0))
    fill = float(np.median(areas / sizes.prod(axis=1)))
    motion = _motion(centres, areas**0.5, mask.shape[2])
    return Verdict(color=color, shape=_shape(fill), motion=motion, ground=ground)


def score(clips: Iterable[tuple[Scene, np.ndarray]]) -> dict[str, float]:
    """Share of clips that show what their sentence says.

    Args:
        clips: sentence and frames, uint8 ``[T, H, W, 3]``; at least one.

    Returns:
        Shares in [0, 1] of "color", "shape", "motion", "ground", and of "all": the first three at
        once.

    Raises:
        ValueError: there are no clips.
    """
    found = [judge(frames).matches(scene) for scene, frames in clips]
    if not found:
        raise ValueError("score: there are no clips")
    return {name: sum(row[name] for row in found) / len(found) for name in found[0]}
