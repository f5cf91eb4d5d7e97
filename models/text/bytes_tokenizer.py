"""A tokenizer without a vocabulary to learn: every UTF-8 byte of the text is one token."""

from __future__ import annotations

from tokenizers import AddedToken, Tokenizer, decoders, pre_tokenizers, processors
from tokenizers.models import BPE
from transformers import PreTrainedTokenizerFast

PAD_ID, EOS_ID, UNK_ID = 0, 1, 2
FIRST_BYTE_ID = 3


def _byte_letters() -> list[str]:
    """The printable character that the byte-level pre-tokenizer puts in the place of each byte.

    Printable Latin-1 stands for itself; the other 68 bytes take U+0100, U+0101, ... in order.
    """
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    letters, following = [], 0x100
    for byte in range(256):
        if byte in printable:
            letters.append(chr(byte))
        else:
            letters.append(chr(following))
            following += 1
    return letters


def build_byte_tokenizer() -> PreTrainedTokenizerFast:
    """Build a byte-level tokenizer: `ids(text) = [byte + 3 for byte in text.encode()] + [1]`.

    Padding is id 0 on the right, end of sequence is id 1, and id 2 is reserved, so there are 259
    ids. `save_pretrained(folder)` writes files that `AutoTokenizer.from_pretrained(folder)` reads
    without a network.

    Returns:
        The tokenizer. Nothing is truncated or padded unless the call asks for it.

    Numerics:
        Exact and reversible for every string that UTF-8 can encode. The names of the special
        tokens have no meaning inside a text: a literal "</s>" is four bytes, not an end.

    Raises:
        ImportError: tokenizers or transformers is not installed.

    Source:
        The id layout is that of ByT5 (Xue et al. 2021, section 3), without its sentinel ids.
    """
    specials = {"<pad>": PAD_ID, "</s>": EOS_ID, "<unk>": UNK_ID}
    letters = {letter: byte + FIRST_BYTE_ID for byte, letter in enumerate(_byte_letters())}
    tokenizer = Tokenizer(BPE(vocab={**specials, **letters}, merges=[], unk_token=None))
    # use_regex=False keeps a text in one piece; there are no merges that words could limit.
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", EOS_ID)]
    )
    tokenizer.add_special_tokens([AddedToken(name, special=True) for name in specials])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        padding_side="right",
        clean_up_tokenization_spaces=False,
        split_special_tokens=True,
    )
