"""Reading a SentencePiece model, which is all that T5's folder holds of a tokenizer.

The file is one protocol buffer. Three of its fields matter: the pieces with their scores, the kind
of model, and the table that normalises characters. Reading them here spares two dependencies.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, normalizers, pre_tokenizers, processors
from tokenizers.models import Unigram
from transformers import PreTrainedTokenizerFast

_UNIGRAM = 1
_NORMAL, _UNKNOWN = 1, 2
_NUM_SENTINELS = 100

Field = int | bytes


@dataclass(frozen=True, slots=True)
class SentencePieceModel:
    """The parts of a unigram model that its tokenisation depends on.

    Attributes:
        pieces: text and score (log probability), in the order of their ids.
        unknown_id: id of what no piece covers.
        charsmap: compiled table of character normalisation; empty for none.
    """

    pieces: list[tuple[str, float]]
    unknown_id: int
    charsmap: bytes


def read_sentencepiece(path: Path) -> SentencePieceModel:
    """Parse a SentencePiece file.

    Args:
        path: such as T5's `spiece.model`.

    Returns:
        Its pieces and normalisation.

    Raises:
        ValueError: the file is truncated, no SentencePiece model, or not of the unigram kind.

    Source:
        sentencepiece_model.proto (field numbers); Protocol Buffers encoding.
    """
    pieces: list[tuple[str, float]] = []
    unknown_id, kind, charsmap = -1, _UNIGRAM, b""
    try:
        for number, content in _fields(path.read_bytes()):
            if number not in (1, 2, 3):
                continue
            values = dict(_fields(_bytes(content)))
            if number == 1:
                if values.get(3, _NORMAL) == _UNKNOWN:
                    unknown_id = len(pieces)
                (score,) = struct.unpack("<f", _bytes(values.get(2, bytes(4))))
                pieces.append((_bytes(values[1]).decode("utf-8"), score))
            elif number == 2:
                kind = int(values.get(3, _UNIGRAM))
            else:
                charsmap = _bytes(values.get(2, b""))
    except (KeyError, IndexError, TypeError, struct.error, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is no complete SentencePiece model: {error!r}") from error
    if kind != _UNIGRAM or unknown_id < 0:
        raise ValueError(
            f"{path} is no unigram SentencePiece model (kind {kind}, {len(pieces)} pieces, "
            f"unknown piece {unknown_id})"
        )
    return SentencePieceModel(pieces, unknown_id, charsmap)


def build_t5_tokenizer(path: Path) -> PreTrainedTokenizerFast:
    """Build T5's tokenizer from its SentencePiece model.

    Every text ends with "</s>"; 100 sentinels `<extra_id_0>` ... follow the pieces, the first one
    with the highest id. Runs of white space count as one.

    Args:
        path: T5's `spiece.model`.

    Returns:
        The tokenizer.

    Raises:
        ValueError: the file is no unigram SentencePiece model, or lacks "<pad>" or "</s>".

    Source:
        Raffel et al. 2020 (arXiv 1910.10683), section 2.2; Kudo 2018 (arXiv 1804.10959).
    """
    model = read_sentencepiece(path)
    sentinels = [f"<extra_id_{i}>" for i in reversed(range(_NUM_SENTINELS))]
    ids = {piece: i for i, (piece, _) in enumerate(model.pieces)}
    if not {"<pad>", "</s>"} <= ids.keys():
        raise ValueError(f'{path} is no model of T5: it lacks "<pad>" or "</s>"')
    vocabulary = [*model.pieces, *((name, 0.0) for name in sentinels)]
    tokenizer = Tokenizer(Unigram(vocabulary, unk_id=model.unknown_id, byte_fallback=False))
    if model.charsmap:
        tokenizer.normalizer = normalizers.Precompiled(model.charsmap)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(prepend_scheme="always")]
    )
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="always")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", ids["</s>"])]
    )
    unknown = model.pieces[model.unknown_id][0]
    specials = ["<pad>", "</s>", unknown, *reversed(sentinels)]
    tokenizer.add_special_tokens([AddedToken(name, special=True) for name in specials])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="</s>",
        unk_token=unknown,
        padding_side="right",
        clean_up_tokenization_spaces=False,
    )


def _fields(message: bytes) -> Iterator[tuple[int, Field]]:
    """Field numbers and contents of a protocol buffer: whole numbers, or bytes."""
    position = 0
    while position < len(message):
        key, position = _varint(message, position)
        number, wire_type = key >> 3, key & 7
        if wire_type == 0:
            value, position = _varint(message, position)
            yield number, value
            continue
        if wire_type == 2:
            length, position = _varint(message, position)
        elif wire_type in (1, 5):
            length = 8 if wire_type == 1 else 4
        else:
            raise IndexError(f"wire type {wire_type} at byte {position}")
        if position + length > len(message):
            raise IndexError(f"{length} bytes announced at byte {position}")
        yield number, message[position : position + length]
        position += length


def _varint(message: bytes, position: int) -> tuple[int, int]:
    """A number of seven bits a byte, lowest first, and the position behind it."""
    value, shift = 0, 0
    while True:
        byte = message[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7


def _bytes(value: Field) -> bytes:
    """The content of a field that must not be a number."""
    if not isinstance(value, bytes):
        raise TypeError(f"a number where bytes were expected: {value}")
    return value
