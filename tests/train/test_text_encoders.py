"""The text encoders learn the words of the language."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from opensora_fast.train.config import RunConfig
from opensora_fast.train.shapes import training_scenes
from opensora_fast.train.text_encoders import ATTRIBUTES, TextStage, tokenize


def test_a_few_steps_lower_the_loss(config: RunConfig) -> None:
    small = dataclasses.replace(config.text, num_steps=25, batch_size=32, lr=1e-2)
    stage = TextStage(small, 0)
    losses = [stage.step(step)["loss"] for step in range(stage.num_steps)]
    assert sum(losses[-5:]) < 0.9 * sum(losses[:5])


def test_tokens_are_bytes_and_an_end() -> None:
    ids = tokenize(["ab", ""], 6)
    assert ids.tolist() == [[ord("a") + 3, ord("b") + 3, 1, 0, 0, 0], [1, 0, 0, 0, 0, 0]]


def test_every_sentence_fits_the_shipped_length() -> None:
    from opensora_fast.train.presets import tiny

    ids = tokenize([scene.prompt for scene in training_scenes()], tiny().text.max_length)
    assert (ids == 1).any(dim=1).all(), "a sentence was truncated"


def test_both_encoders_tell_sentences_apart(config: RunConfig) -> None:
    stage = TextStage(config.text, 0)
    texts = ["a small red circle stays still", "a small red circle moves up"]
    with torch.no_grad():
        states, vectors = stage.encode(tokenize(texts, config.text.max_length))
    assert states.shape == (2, config.text.max_length, config.text.width)
    assert vectors.shape == (2, config.text.width)
    assert not torch.allclose(states[0], states[1])
    assert not torch.allclose(vectors[0], vectors[1])


def test_accuracy_names_encoder_and_attribute(config: RunConfig) -> None:
    found = TextStage(config.text, 0).accuracy()
    assert set(found) == {f"{e}.{a}" for e in ("t5", "clip") for a in ATTRIBUTES}
    assert all(0 <= share <= 1 for share in found.values())


def test_a_width_that_the_heads_do_not_divide_is_refused(config: RunConfig) -> None:
    with pytest.raises(ValueError, match="width 15 is not a multiple of num_heads 2"):
        dataclasses.replace(config.text, width=15)
