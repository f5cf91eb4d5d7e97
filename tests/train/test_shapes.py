"""The language of the shapes and its renderer."""

from __future__ import annotations

import numpy as np
import pytest

from opensora_fast.bench.tiny_quality import judge
from opensora_fast.train import shapes
from opensora_fast.train.shapes import Scene, all_scenes, render, training_scenes

# Under its own name pytest would take `test_scenes` for a test.
HELD_OUT = shapes.test_scenes()


def scene(motion: str, size: str = "small", shape: str = "square") -> Scene:
    return Scene(size=size, color="red", shape=shape, motion=motion, ground="black")


def inside(frames: np.ndarray) -> np.ndarray:
    """Where a red shape covers at least half of a pixel on black."""
    return frames[..., 0] > 115


def test_the_language_is_split_without_overlap() -> None:
    prompts = {s.prompt for s in all_scenes()}
    held_out, training = {s.prompt for s in HELD_OUT}, {s.prompt for s in training_scenes()}
    assert len(prompts) == len(all_scenes()) == 1344
    assert len(held_out) == 161
    assert not held_out & training
    assert held_out | training == prompts


def test_the_split_is_frozen() -> None:
    """The shipped model was trained with this split; another one would leak test sentences."""
    assert HELD_OUT[0].prompt == "a small red circle moves to the left on a navy background"
    assert HELD_OUT[-1].prompt == "a large white triangle grows on a gray background"


def test_every_word_occurs_on_both_sides_of_the_split() -> None:
    for part in (HELD_OUT, training_scenes()):
        words = {value for s in part for value in (s.size, s.color, s.shape, s.motion, s.ground)}
        assert len(words) == 2 + 8 + 3 + 7 + 4


def test_the_judge_reads_every_held_out_scene() -> None:
    for i, held_out in enumerate(HELD_OUT):
        verdict = judge(render(held_out, np.random.default_rng(i)))
        assert all(verdict.matches(held_out).values()), (held_out.prompt, verdict)


@pytest.mark.parametrize("size", shapes.SIZES)
@pytest.mark.parametrize(("motion", "direction"), shapes.DIRECTIONS.items())
def test_a_move_is_long_and_straight(size: str, motion: str, direction: tuple[int, int]) -> None:
    for seed in range(20):
        mask = inside(render(scene(motion, size), np.random.default_rng(seed)))
        first, last = (np.argwhere(mask[i]).mean(axis=0)[::-1] / 64 for i in (0, -1))
        along = float((last - first) @ direction)
        across = float(np.abs((last - first) @ direction[::-1]))
        assert along >= 0.25
        assert across < 1 / 64


@pytest.mark.parametrize("shape", shapes.SHAPES)
@pytest.mark.parametrize(("motion", "power"), [("grows", 1), ("shrinks", -1), ("stays still", 0)])
def test_growth(shape: str, motion: str, power: int) -> None:
    for seed in range(10):
        frames = render(scene(motion, shape=shape), np.random.default_rng(seed), size=128)
        widths = inside(frames).sum(axis=(1, 2)) ** 0.5
        ratio = widths[-1] / widths[0]
        if power:
            assert 1.6 <= ratio**power <= 2.3
        else:
            assert (frames == frames[0]).all()


@pytest.mark.parametrize("scene_", all_scenes()[::97], ids=lambda s: s.prompt)
def test_shapes_keep_off_the_border(scene_: Scene) -> None:
    for seed in range(5):
        frames = render(scene_, np.random.default_rng(seed))
        border = [frames[:, 0], frames[:, -1], frames[:, :, 0], frames[:, :, -1]]
        assert all((side == shapes.GROUNDS[scene_.ground]).all() for side in border)


def test_a_clip_depends_on_its_seed_only() -> None:
    one, same, other = (render(scene("moves up"), np.random.default_rng(s)) for s in (1, 1, 2))
    assert (one == same).all()
    assert (one != other).any()


def test_any_resolution_shows_the_same_scene() -> None:
    """The mean of 2x2 pixels of a drawing twice as large is the drawing, but for the outline."""
    small, large = (render(scene("grows"), np.random.default_rng(3), size=s) for s in (32, 64))
    pooled = large.reshape(17, 32, 2, 32, 2, 3).astype(float).mean(axis=(2, 4))
    difference = np.abs(pooled - small)
    assert difference.mean() < 1.0
    assert np.quantile(difference, 0.9) == 0.0


def test_pixels() -> None:
    frames = np.zeros((2, 5, 4, 6, 3), np.uint8)
    frames[..., 1] = 255
    x = shapes.to_pixels(frames)
    assert x.shape == (2, 3, 5, 4, 6)
    assert (x[:, 0] == -1).all()
    assert (x[:, 1] == 1).all()
