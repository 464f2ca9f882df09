"""What tokens are as text: a token may be a part of a character only, or parts of two.

A tokenizer's own decoding shows such a part as U+FFFD. Here a token alone is written with its
bytes, `<0xE3><0x81>`, and a token of a text carries the whole of each character that it has a part
of.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from codecs import getincrementaldecoder
from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import Any, NamedTuple

REPLACEMENT = "\ufffd"
# In a token of SentencePiece.
_BLANK = "\u2581"
# SentencePiece names a byte so; byte-level BPE writes each byte as one printable character.
_NAMED_BYTE = re.compile("<0x([0-9A-F]{2})>")
_ESCAPED = re.compile("[\udc80-\udcff]")


class TokenText(NamedTuple):
    """A token of a text.

    Attributes:
        text: of it; of a character that it has a part of the whole.
        piece: None if its text is its own; else which one it is of how many tokens that share
            characters, from 1.
    """

    text: str
    piece: tuple[int, int] | None


def texts_alone(tokenizer: Any, token_ids: Iterable[int]) -> list[str]:
    """The text of each token by itself; bytes that are no whole character as `<0xE3>`."""
    return [_text_alone(tokenizer, token_id) for token_id in token_ids]


def texts_with_blanks(tokenizer: Any, token_ids: Iterable[int]) -> list[str]:
    """The text of each token as it stands in a row; a part of a character is U+FFFD.

    Decoding a token of SentencePiece by itself may drop the blank that it begins with.
    """
    found = []
    for token_id in token_ids:
        token = str(tokenizer.convert_ids_to_tokens(token_id))
        text = str(tokenizer.decode([token_id]))
        found.append(token.replace(_BLANK, " ") if _BLANK in token else text)
    return found


def texts_together(tokenizer: Any, token_ids: Sequence[int]) -> list[TokenText]:
    """The text of each token of a text, whose characters may be several tokens each."""
    parts = [_bytes_of(tokenizer, token_id) for token_id in token_ids]
    found: list[TokenText] = []
    while len(found) < len(parts):
        run = _run_of(parts, len(found))
        if run == 1:
            found.append(TokenText(_written(parts[len(found)]), None))
        else:
            found += _shared(parts[len(found) : len(found) + run])
    return found


def text_of(tokenizer: Any, token_ids: Sequence[int]) -> str:
    """Tokens as one text; bytes at its ends that are no whole character as `<0xE3>`."""
    text = str(tokenizer.decode(token_ids))
    if REPLACEMENT not in text:
        return text
    return _written(b"".join(_bytes_of(tokenizer, token_id) for token_id in token_ids))


def _text_alone(tokenizer: Any, token_id: int) -> str:
    text = str(tokenizer.decode([token_id]))
    return _written(_bytes_of(tokenizer, token_id)) if REPLACEMENT in text else text


def _bytes_of(tokenizer: Any, token_id: int) -> bytes:
    """The bytes of a token; its decoded text where the tokenizer does not tell more."""
    text = str(tokenizer.decode([token_id]))
    if REPLACEMENT in text:
        token = str(tokenizer.convert_ids_to_tokens(token_id))
        if named := _NAMED_BYTE.fullmatch(token):
            return bytes.fromhex(named[1])
        if all(character in _BYTES for character in token):
            return bytes(_BYTES[character] for character in token)
    return text.encode("utf-8", "surrogatepass")


def _run_of(parts: Sequence[bytes], first: int) -> int:
    """How many tokens from one on share characters; 1 also where they never become whole."""
    decoder = getincrementaldecoder("utf-8")()
    for number, part in enumerate(parts[first:], start=1):
        try:
            decoder.decode(part)
        except UnicodeDecodeError:
            break
        if not decoder.getstate()[0]:  # bytes that wait for others
            return number
    return 1


def _shared(parts: Sequence[bytes]) -> list[TokenText]:
    """Tokens that share characters, each with all characters that it has a byte of."""
    text = b"".join(parts).decode()
    ends = list(accumulate(len(character.encode()) for character in text))
    found, begin = [], 0
    for number, part in enumerate(parts, start=1):
        first = bisect_right(ends, begin)
        begin += len(part)
        last = bisect_left(ends, begin)
        found.append(TokenText(text[first : last + 1], (number, len(parts))))
    return found


def _written(raw: bytes) -> str:
    """Bytes as text, those that are no character by their names."""
    text = raw.decode("utf-8", "surrogateescape")
    return _ESCAPED.sub(lambda found: f"<0x{ord(found[0]) - 0xDC00:02X}>", text)


def _byte_characters() -> dict[str, int]:
    """The character of byte-level BPE for each byte: itself if it prints, else one from 256 on."""
    printing = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    found = {chr(byte): byte for byte in printing}
    others = (byte for byte in range(256) if byte not in printing)
    return found | {chr(256 + number): byte for number, byte in enumerate(others)}


_BYTES = _byte_characters()
