"""The judge looks at pixels only; here it looks at clips of which the answer is known."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from opensora_fast.bench.tiny_quality import judge, score
from opensora_fast.train.shapes import COLORS, MOTIONS, SHAPES, Scene, all_scenes, render

SCENE = Scene(size="large", color="red", shape="circle", motion="moves up", ground="navy")
SOME = all_scenes()[::29]


def drawn(scene: Scene, seed: int = 0) -> np.ndarray:
    return render(scene, np.random.default_rng(seed))


@pytest.mark.parametrize("scene", SOME, ids=lambda scene: scene.prompt)
def test_rendered_clips_show_what_their_sentence_says(scene: Scene) -> None:
    for seed in range(3):
        verdict = judge(drawn(scene, seed))
        assert all(verdict.matches(scene).values()), verdict


@pytest.mark.parametrize("scene", SOME[::4], ids=lambda scene: scene.prompt)
def test_soft_and_noisy_clips_are_read_alike(scene: Scene) -> None:
    """As a network draws: blurred by three pixels, with noise and rounding."""
    clip = drawn(scene).astype(float)
    clip = sum(np.roll(clip, shift, axis=(1, 2)) for shift in ((0, 0), (0, 1), (1, 0))) / 3
    clip += np.random.default_rng(1).normal(0, 5, clip.shape)
    verdict = judge(np.clip(np.round(clip), 0, 255).astype(np.uint8))
    assert all(verdict.matches(scene).values()), verdict


@pytest.mark.parametrize(
    ("name", "values"), [("color", tuple(COLORS)), ("shape", SHAPES), ("motion", MOTIONS)]
)
def test_another_word_does_not_match(name: str, values: tuple[str, ...]) -> None:
    verdict = judge(drawn(SCENE))
    for value in values:
        other = dataclasses.replace(SCENE, **{name: value})
        assert verdict.matches(other)[name] == (value == getattr(SCENE, name))
        assert verdict.matches(other)["all"] == (other == SCENE)


def test_noise_shows_nothing() -> None:
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (17, 64, 64, 3), dtype=np.uint8)
    faint = np.clip(rng.normal(100, 12, noise.shape), 0, 255).astype(np.uint8)
    for frames in (noise, faint):
        verdict = judge(frames)
        assert verdict.shape is None
        assert not verdict.matches(SCENE)["all"]
    assert (judge(noise).color, judge(noise).motion) == (None, None)


def test_an_empty_clip_shows_its_ground_only() -> None:
    verdict = judge(np.full((17, 64, 64, 3), (20, 30, 70), np.uint8))
    assert verdict.ground == "navy"
    assert (verdict.color, verdict.shape, verdict.motion) == (None, None, None)


def test_a_shape_that_vanishes_is_no_shape() -> None:
    frames = drawn(SCENE)
    frames[8] = frames[8, 0, 0]
    assert judge(frames).shape is None


@pytest.mark.parametrize(
    "frames",
    [
        np.zeros((17, 64, 64, 3), np.float32),
        np.zeros((64, 64, 3), np.uint8),
        np.zeros((0, 64, 64, 3), np.uint8),
    ],
    ids=["dtype", "axes", "no frames"],
)
def test_what_is_no_clip_is_refused(frames: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"expected uint8 \[T, H, W, 3\]"):
        judge(frames)


def test_score_counts_shares() -> None:
    other = dataclasses.replace(SCENE, color="green")
    clips = [(SCENE, drawn(SCENE)), (SCENE, drawn(other)), (SCENE, drawn(SCENE, 1))]
    third = pytest.approx(2 / 3)
    expected = {"color": third, "shape": 1.0, "motion": 1.0, "ground": 1.0, "all": third}
    assert score(clips) == expected
    with pytest.raises(ValueError, match="there are no clips"):
        score([])
