"""The tiny model's world: a small language of moving shapes, and the clips that it describes.

A sentence names size, colour, shape, motion and ground; `render` draws a clip for it. Geometry is
in units of the frame's edge and anti-aliased by signed distance, so any resolution shows the same
scene.
"""

from __future__ import annotations

import itertools
import zlib
from dataclasses import dataclass

import numpy as np
import torch

SIZES = {"small": (0.13, 0.17), "large": (0.22, 0.28)}  # radius, in frame edges
COLORS = {
    "red": (220, 40, 40),
    "orange": (240, 140, 30),
    "yellow": (235, 220, 50),
    "green": (50, 180, 70),
    "cyan": (60, 200, 210),
    "blue": (60, 90, 220),
    "purple": (150, 70, 190),
    "white": (240, 240, 240),
}
GROUNDS = {
    "black": (10, 10, 10),
    "gray": (110, 110, 110),
    "navy": (20, 30, 70),
    "brown": (90, 60, 40),
}
SHAPES = ("circle", "square", "triangle")
DIRECTIONS = {
    "moves to the left": (-1, 0),
    "moves to the right": (1, 0),
    "moves up": (0, -1),
    "moves down": (0, 1),
}
MOTIONS = (*DIRECTIONS, "stays still", "grows", "shrinks")
MARGIN = 0.02  # free space kept between the shape and the frame's border
TRAVEL = (0.30, 0.48)  # length of a move
GROWTH = (1.7, 2.2)  # ratio of the widths at both ends of "grows" and "shrinks"


@dataclass(frozen=True, kw_only=True, slots=True)
class Scene:
    """What one sentence says."""

    size: str
    color: str
    shape: str
    motion: str
    ground: str

    @property
    def prompt(self) -> str:
        """The sentence."""
        return (
            f"a {self.size} {self.color} {self.shape} {self.motion} on a {self.ground} background"
        )

    @property
    def held_out(self) -> bool:
        """Whether the sentence belongs to the test set, which training never sees."""
        return zlib.crc32(self.prompt.encode()) % 8 == 0


def all_scenes() -> list[Scene]:
    """The whole language: 1344 sentences in a fixed order."""
    choices = itertools.product(SIZES, COLORS, SHAPES, MOTIONS, GROUNDS)
    return [Scene(size=s, color=c, shape=f, motion=m, ground=g) for s, c, f, m, g in choices]


def training_scenes() -> list[Scene]:
    """The sentences that training may use."""
    return [scene for scene in all_scenes() if not scene.held_out]


def test_scenes() -> list[Scene]:
    """The sentences with ``crc32 % 8 == 0``, kept for measuring."""
    return [scene for scene in all_scenes() if scene.held_out]


def _path(scene: Scene, num_frames: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Centres ``[T, 2]`` as (x, y) and radii ``[T]``, the whole shape inside every frame."""
    radius = rng.uniform(*SIZES[scene.size])
    progress = np.linspace(0.0, 1.0, num_frames) if num_frames > 1 else np.zeros(1)
    growth = 1.0
    if scene.motion in ("grows", "shrinks"):
        growth = rng.uniform(*GROWTH)
    if scene.motion == "shrinks":
        growth = 1.0 / growth
    radii = radius * growth ** (progress - 0.5)  # the size word names the geometric mean
    low = radii.max() + MARGIN
    start = rng.uniform(low, 1.0 - low, size=2)
    step = np.zeros(2)
    if scene.motion in DIRECTIONS:
        room = 1.0 - 2.0 * low
        length = min(rng.uniform(*TRAVEL), room)
        step = np.asarray(DIRECTIONS[scene.motion]) * length
        axis = int(np.argmax(np.abs(step)))
        first = low + rng.uniform() * (room - length)
        start[axis] = first if step[axis] > 0 else first + length
    return start + progress[:, None] * step, radii


def _signed_distance(shape: str, x: np.ndarray, y: np.ndarray, radius: np.ndarray) -> np.ndarray:
    """Distance to the outline, negative inside; x and y relative to the shape's centre."""
    distance: np.ndarray
    if shape == "circle":
        distance = np.hypot(x, y) - radius
    elif shape == "square":
        distance = np.maximum(np.abs(x), np.abs(y)) - 0.9 * radius
    else:
        # A side runs from the apex (0, -r) to (r, r): its normal is (2, -1) / sqrt(5).
        distance = np.maximum(y - radius, (2.0 * np.abs(x) - y - radius) * 5.0**-0.5)
    return distance


def render(
    scene: Scene, rng: np.random.Generator, *, num_frames: int = 17, size: int = 64
) -> np.ndarray:
    """Draw one clip of ``scene``.

    Args:
        scene: what to draw; place, exact size and speed are drawn from ``rng``.
        rng: source of randomness.
        num_frames: frames.
        size: edge of the square frame in pixels.

    Returns:
        uint8 ``[T, H, W, 3]``.
    """
    centres, radii = _path(scene, num_frames, rng)
    grid = (np.arange(size) + 0.5) / size
    x = grid[None, None, :] - centres[:, 0, None, None]
    y = grid[None, :, None] - centres[:, 1, None, None]
    distance = _signed_distance(scene.shape, x, y, radii[:, None, None])
    cover = np.clip(0.5 - distance * size, 0.0, 1.0)[..., None]
    color = np.asarray(COLORS[scene.color], np.float64)
    ground = np.asarray(GROUNDS[scene.ground], np.float64)
    return np.round(ground + cover * (color - ground)).astype(np.uint8)


def to_pixels(frames: np.ndarray) -> torch.Tensor:
    """uint8 ``[..., T, H, W, 3]`` to fp32 ``[..., 3, T, H, W]`` in [-1, 1]."""
    return torch.from_numpy(frames).movedim(-1, -4).float() / 127.5 - 1.0
