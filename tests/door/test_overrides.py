"""`section.field=value` words: told from prompts, parsed by type, refused with the nearest name."""

from __future__ import annotations

import pytest

from opensora_fast.models.overrides import apply_overrides, split_words
from opensora_fast.sampling_config import SamplingConfig


def test_words_are_told_from_prompts() -> None:
    words = ["a ball = round.", "sampling.shift=false", "e.g. x=1", "v1.2=x", "a.b=", "mp4.x=a=b"]
    plain, overrides = split_words(words)
    assert plain == ["a ball = round.", "e.g. x=1", "v1.2=x"]
    assert overrides == ["sampling.shift=false", "a.b=", "mp4.x=a=b"]


def test_values_are_parsed_by_the_type_of_their_field() -> None:
    config = apply_overrides(
        SamplingConfig(),
        "sampling",
        [
            "sampling.num_frames=17",
            "sampling.guidance_scale=3",
            "sampling.shift=no",
            "sampling.shift_alpha=2.5",
            "sampling.motion_score=none",
            "sampling.num_frames=21",
        ],
    )
    assert (config.num_frames, config.guidance_scale, config.shift) == (21, 3.0, False)
    assert isinstance(config.guidance_scale, float)
    assert (config.shift_alpha, config.motion_score) == (2.5, None)


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("sampling.num_frames=1.5", "sampling.num_frames must be a whole number, got '1.5'"),
        ("sampling.num_frames=none", "must be a whole number"),
        ("sampling.guidance_scale=much", "must be a number, got 'much'"),
        ("sampling.shift=2", "must be true or false"),
        ("sampling.guidance_scal=1", "did you mean 'guidance_scale'"),
        ("sampling.zzz=1", "there are num_frames, height"),
        ("sample.shift=true", "no section 'sample'"),
        ("sampling.guidance_scale=inf", "guidance_scale must be"),
        ("shift=true", "expected section.field=value"),
    ],
)
def test_faulty_words(word: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        apply_overrides(SamplingConfig(), "sampling", [word])
