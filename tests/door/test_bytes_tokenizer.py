"""The byte-level tokenizer: every UTF-8 byte is one id, exactly and reversibly."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from opensora_fast.models.text.bytes_tokenizer import build_byte_tokenizer

TOKENIZER = build_byte_tokenizer()
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)


def expected_ids(text: str) -> list[int]:
    return [byte + 3 for byte in text.encode()] + [1]


@given(TEXTS)
@settings(deadline=None, derandomize=True)
def test_each_byte_is_one_id_and_nothing_is_lost(text: str) -> None:
    ids = TOKENIZER(text).input_ids
    assert ids == expected_ids(text)
    assert TOKENIZER.decode(ids, skip_special_tokens=True) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "  two  spaces ",
        "\n\t\x00",
        "é",
        "e\u0301",
        "日本",
        "🏀",
        "<pad>",
        "a</s>b",
        "<unk>",
    ],
)
def test_awkward_texts_survive_a_save_and_an_offline_load(text: str, tmp_path: Path) -> None:
    TOKENIZER.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path, local_files_only=True)
    assert isinstance(loaded, PreTrainedTokenizerFast)
    for tokenizer in (TOKENIZER, loaded):
        assert tokenizer(text).input_ids == expected_ids(text)


def test_padding_and_truncation_keep_the_end_of_sequence() -> None:
    batch = TOKENIZER(
        ["ab", "abcdefgh"], padding="max_length", truncation=True, max_length=5, return_tensors="np"
    )
    assert batch.input_ids.tolist() == [[100, 101, 1, 0, 0], [100, 101, 102, 103, 1]]
    assert batch.attention_mask.tolist() == [[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]]


def test_there_are_259_ids_with_pad_0_and_eos_1() -> None:
    assert len(TOKENIZER) == 259
    assert (TOKENIZER.pad_token_id, TOKENIZER.eos_token_id) == (0, 1)
