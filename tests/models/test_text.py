"""Text encoders on tiny random networks: tokenisation, what is encoded, faulty folders."""

from __future__ import annotations

import struct

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import CLIPTextConfig, CLIPTextModel, T5Config, T5EncoderModel

from opensora_fast.models import CheckpointError
from opensora_fast.models.text import CLIPEncoder, T5Encoder
from opensora_fast.models.text.bytes_tokenizer import build_byte_tokenizer
from opensora_fast.models.text.sentencepiece import build_t5_tokenizer, read_sentencepiece


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    torch.manual_seed(0)
    t5 = T5Config(
        vocab_size=384, d_model=16, d_kv=8, d_ff=24, num_layers=2, num_heads=2,
        feed_forward_proj="gated-gelu", dropout_rate=0.0,
    )  # fmt: skip
    clip = CLIPTextConfig(
        vocab_size=384, hidden_size=16, intermediate_size=32, num_hidden_layers=2,
        num_attention_heads=2, max_position_embeddings=20, eos_token_id=1, pad_token_id=0,
        bos_token_id=2,
    )  # fmt: skip
    root = tmp_path_factory.mktemp("text")
    for name, network in (("t5", T5EncoderModel(t5)), ("clip", CLIPTextModel(clip))):
        network.save_pretrained(root / name)
        build_byte_tokenizer().save_pretrained(root / name)
    return root


def test_t5_attends_to_padding(folders) -> None:
    encoder = T5Encoder.from_pretrained(folders / "t5", max_length=12)
    ids = encoder.tokenize(["red", "", "x" * 40])
    assert ids.shape == (3, 12)
    assert ids[0].tolist() == [ord("r") + 3, ord("e") + 3, ord("d") + 3, 1] + [0] * 8
    assert ids[1].tolist() == [1] + [0] * 11
    assert ids[2].tolist() == [ord("x") + 3] * 11 + [1]
    encoded = encoder.encode(["red", "", "x" * 40])
    everything = torch.ones_like(ids)
    expected = encoder.hf_module(input_ids=ids, attention_mask=everything).last_hidden_state
    torch.testing.assert_close(encoded, expected)
    masked = encoder.hf_module(input_ids=ids, attention_mask=(ids != 0).long()).last_hidden_state
    assert not torch.allclose(encoded[0, :4], masked[0, :4], atol=1e-3)


def test_clip_pools_at_the_first_end(folders) -> None:
    encoder = CLIPEncoder.from_pretrained(folders / "clip", max_length=12)
    ids = encoder.tokenize(["red", "ball!"])
    states = encoder.hf_module(input_ids=ids).last_hidden_state
    expected = torch.stack([states[0, 3], states[1, 5]])
    torch.testing.assert_close(encoder.encode(["red", "ball!"]), expected)


@pytest.mark.parametrize(("name", "encoder_class"), [("t5", T5Encoder), ("clip", CLIPEncoder)])
def test_dtype_gradients_and_batches(folders, name, encoder_class) -> None:
    encoder = encoder_class.from_pretrained(
        folders / name, device="cpu", dtype=torch.bfloat16, max_length=10
    )
    assert {p.dtype for p in encoder.parameters()} == {torch.bfloat16}
    assert not any(p.requires_grad or p.is_meta for p in encoder.parameters())
    assert not encoder.training
    both = encoder.encode(["a red ball", "a blue square"])
    assert both.dtype == torch.bfloat16
    assert not both.is_inference()
    one = encoder_class.from_pretrained(folders / name, max_length=10).encode(["a blue square"])
    torch.testing.assert_close(both[1:].float(), one, rtol=0.1, atol=0.1)


def test_default_lengths(folders) -> None:
    assert T5Encoder.from_pretrained(folders / "t5").max_length == 512
    assert CLIPEncoder.default_max_length == 77
    with pytest.raises(ValueError, match="max_length 77 is beyond the network's 20 positions"):
        CLIPEncoder.from_pretrained(folders / "clip")


@pytest.mark.parametrize("texts", ["red", [1], [], [None]])
def test_texts_that_are_none(folders, texts) -> None:
    encoder = T5Encoder.from_pretrained(folders / "t5", max_length=4)
    with pytest.raises(ValueError, match="T5Encoder: expected"):
        encoder.encode(texts)


def test_faulty_folders(folders, tmp_path) -> None:
    with pytest.raises(CheckpointError, match="there is no folder"):
        T5Encoder.from_pretrained(tmp_path / "none")
    with pytest.raises(CheckpointError, match="holds no complete T5Encoder"):
        T5Encoder.from_pretrained(tmp_path)
    with pytest.raises(ValueError, match="max_length must be at least 1"):
        T5Encoder(torch.nn.Linear(1, 1), None, max_length=0)
    copy = tmp_path / "t5"
    copy.mkdir()
    for file in (folders / "t5").iterdir():
        content = file.read_bytes()
        cut = len(content) // 2 if file.suffix == ".safetensors" else len(content)
        (copy / file.name).write_bytes(content[:cut])
    with pytest.raises(CheckpointError, match="holds no complete T5Encoder"):
        T5Encoder.from_pretrained(copy)


def test_weights_are_never_made_up(folders, tmp_path) -> None:
    state = load_file(folders / "t5" / "model.safetensors")
    (lost, *_) = [key for key in state if key.endswith("wi_0.weight")]
    del state[lost]
    for file in (folders / "t5").iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    save_file(state, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(CheckpointError, match=f"1 missing, first {lost}"):
        T5Encoder.from_pretrained(tmp_path)


def _varint(value: int) -> bytes:
    out = b""
    while value > 0x7F:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def _block(field: int, content: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(content)) + content


def sentencepiece_model(kind: int = 1) -> bytes:
    pieces = [("<pad>", 0.0, 3), ("</s>", 0.0, 3), ("<unk>", 0.0, 2), ("▁a", -1.0, 1),
              ("▁red", -2.0, 1), ("▁re", -3.0, 1), ("▁ball", -2.5, 1), ("▁", -4.0, 1),
              *((letter, -6.0, 1) for letter in "abdelr")]  # fmt: skip
    model = b"".join(
        _block(
            1,
            _block(1, text.encode())
            + b"\x15"
            + struct.pack("<f", score)
            + b"\x18"
            + bytes([kind_]),
        )
        for text, score, kind_ in pieces
    )
    # The model kind, and a field of another kind that the reader has to pass over.
    return model + _block(2, b"\x18" + bytes([kind]) + _block(77, b"x") + b"\x98\x06\x80\x08")


def test_t5_tokenizer_from_a_sentencepiece_model(folders, tmp_path) -> None:
    path = tmp_path / "spiece.model"
    path.write_bytes(sentencepiece_model())
    tokenizer = build_t5_tokenizer(path)
    a, red, ball, space = 3, 4, 6, 7
    letters = {letter: 8 + i for i, letter in enumerate("abdelr")}
    assert tokenizer("a red  ball\n").input_ids == [a, red, ball, 1]
    assert tokenizer("").input_ids == [1]
    assert tokenizer("bad ☃").input_ids == [
        space,
        letters["b"],
        letters["a"],
        letters["d"],
        space,
        2,
        1,
    ]
    # Legacy sentinels lie behind the pieces, the first one last.
    assert tokenizer("a<extra_id_0>").input_ids == [a, 14 + 99, 1]
    assert tokenizer.convert_tokens_to_ids("<extra_id_99>") == 14
    assert tokenizer.pad_token_id == 0

    folder = tmp_path / "t5"
    folder.mkdir()
    path.rename(folder / "spiece.model")
    for name in ("config.json", "model.safetensors"):
        (folder / name).write_bytes((folders / "t5" / name).read_bytes())
    encoder = T5Encoder.from_pretrained(folder, max_length=6)
    assert encoder.tokenize(["a red ball"]).tolist() == [[a, red, ball, 1, 0, 0]]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (sentencepiece_model()[:-50], "no complete SentencePiece model"),
        (sentencepiece_model(kind=2), "no unigram SentencePiece model"),
        (b"", "no unigram SentencePiece model"),
        (b"\x0b" * 100, "no complete SentencePiece model|no unigram"),
    ],
)
def test_files_that_are_no_sentencepiece_model(tmp_path, content, said) -> None:
    path = tmp_path / "spiece.model"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=said):
        read_sentencepiece(path)
