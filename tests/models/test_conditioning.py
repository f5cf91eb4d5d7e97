"""Which frames are given: the table of condition types, per sample, and its faults."""

from __future__ import annotations

import pytest
import torch

from opensora_fast.models.conditioning import COND_TYPES, prepare_condition, restore_references

SHAPE = (2, 3, 20, 4, 6)


def clip(frames: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(3, frames, 4, 6, generator=torch.Generator().manual_seed(seed))


def given_frames(masks: torch.Tensor, sample: int) -> list[int]:
    frames = masks[sample, 0].flatten(1)
    assert bool(((frames == 0) | (frames == 1)).all())
    assert torch.equal(frames.amin(1), frames.amax(1))
    return frames[:, 0].nonzero().flatten().tolist()


@pytest.mark.parametrize(
    ("cond_type", "frames", "causal", "expected"),
    [
        ("i2v_head", 1, True, [0]),
        ("i2v_tail", 1, True, [19]),
        ("v2v_head", 12, True, list(range(9))),
        ("v2v_head", 12, False, list(range(8))),
        ("v2v_tail", 12, True, list(range(11, 20))),
        ("v2v_tail", 12, False, list(range(12, 20))),
        ("v2v_head_easy", 18, True, list(range(17))),
        ("v2v_tail_easy", 18, False, list(range(4, 20))),
        ("v2v_head_easy", 16, True, list(range(9))),
        ("v2v_tail", 5, True, list(range(15, 20))),
    ],
)
def test_given_frames(cond_type, frames, causal, expected) -> None:
    z = torch.zeros(SHAPE)
    references = [[clip(frames, seed)] for seed in range(2)]
    masks, masked_ref = prepare_condition(z, cond_type, references, causal=causal)
    for sample in range(2):
        assert given_frames(masks, sample) == expected
        (latent,) = references[sample]
        part = latent[:, -len(expected) :] if "tail" in cond_type else latent[:, : len(expected)]
        assert torch.equal(masked_ref[sample][:, expected], part)
    assert torch.equal(masked_ref * (1 - masks), torch.zeros(SHAPE))


def test_loop_takes_the_first_of_the_first_and_the_last_of_the_last() -> None:
    first, last = clip(3, 1), clip(2, 2)
    masks, masked_ref = prepare_condition(torch.zeros(1, *SHAPE[1:]), "i2v_loop", [[first, last]])
    assert given_frames(masks, 0) == [0, 19]
    assert torch.equal(masked_ref[0, :, 0], first[:, 0])
    assert torch.equal(masked_ref[0, :, 19], last[:, 1])


def test_text_alone_and_single_frames_have_no_condition() -> None:
    z = torch.randn(SHAPE, dtype=torch.bfloat16)
    for masks, masked_ref in (
        prepare_condition(z, "t2v"),
        prepare_condition(z[:, :, :1], "i2v_head", [[clip(1)], [clip(1)]]),
    ):
        assert not masks.any()
        assert not masked_ref.any()
        assert masks.dtype == masked_ref.dtype == torch.bfloat16


def test_every_sample_gets_its_own_reference_back() -> None:
    z = torch.randn(SHAPE)
    references = [[clip(1, seed)] for seed in range(2)]
    masks, masked_ref = prepare_condition(z, "i2v_head", references)
    restored = restore_references(z, masks, masked_ref, "i2v_head")
    for sample in range(2):
        assert torch.equal(restored[sample, :, :1], references[sample][0])
    assert torch.equal(restored[:, :, 1:], z[:, :, 1:])
    masks, masked_ref = prepare_condition(z, "v2v_head", [[clip(9)], [clip(9)]])
    assert restore_references(z, masks, masked_ref, "v2v_head") is z


@pytest.mark.parametrize(
    ("cond_type", "references", "said"),
    [
        ("i2v", None, "cond_type must be one of t2v, i2v_head"),
        ("i2v_head", None, "i2v_head needs references for 2 samples, got none"),
        ("i2v_head", [[clip(1)]], "needs references for 2 samples, got 1"),
        ("i2v_head", [[clip(1)], []], "needs 1 reference latents per sample, sample 1 has 0"),
        ("i2v_loop", [[clip(1)], [clip(1)]], "needs 2 reference latents per sample"),
        ("i2v_tail", [[clip(1)[:2]], [clip(1)]], r"sample 0 must be \[3, frames, 4, 6\], got \[2,"),
        ("i2v_tail", [[clip(0)], [clip(1)]], "sample 0 has no frame"),
    ],
)
def test_faults(cond_type, references, said) -> None:
    with pytest.raises(ValueError, match=said):
        prepare_condition(torch.zeros(SHAPE), cond_type, references)


def test_a_clip_that_leaves_nothing_to_make() -> None:
    z = torch.zeros(1, 3, 9, 4, 6)
    with pytest.raises(ValueError, match="gives 9 latent frames of a video that has 9"):
        prepare_condition(z, "v2v_head", [[clip(30)]])
    assert len(COND_TYPES) == len(set(COND_TYPES)) == 8
