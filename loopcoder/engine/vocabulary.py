"""Single tokens as bytes and text."""

from collections.abc import Sequence
from typing import Any

from tokenizers.decoders import ByteLevel


def token_bytes(tokenizer: Any, token_id: int) -> bytes:
    """What one token stands for, which may be part of a character; empty for an unknown id."""
    return TokenTexts(tokenizer).bytes(token_id)


class TokenTexts:
    """The tokens of a `transformers` fast tokenizer as bytes and text; one serves all requests.

    `exact` says that bytes of a text are the joined bytes of its tokens (byte-level BPE). Other
    tokenizers put spaces in or take them out, so there `decode` alone knows.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._backend = tokenizer.backend_tokenizer
        self.exact = isinstance(self._backend.decoder, ByteLevel)
        added = self._backend.get_added_tokens_decoder().items()
        self.special = frozenset(token_id for token_id, token in added if token.special)
        self._bytes: dict[int, bytes] = {}

    def bytes(self, token_id: int) -> bytes:
        """The token's bytes, those of special tokens included; empty for an unknown id."""
        found = self._bytes.get(token_id)
        if found is None:
            token = self._backend.id_to_token(token_id)
            spell = _byte_level if self.exact else _sentence_piece
            found = self._bytes[token_id] = b"" if token is None else spell(token)
        return found

    def text(self, token_id: int) -> str:
        """The token on its own; U+FFFD stands for bytes that are no whole character."""
        return self.bytes(token_id).decode("utf-8", "replace")

    def decode(self, token_ids: Sequence[int], *, skip_special_tokens: bool = True) -> str:
        """The text of all tokens together."""
        text: str = self._backend.decode(list(token_ids), skip_special_tokens=skip_special_tokens)
        return text


def _byte_alphabet() -> dict[str, int]:
    """GPT-2's alphabet: visible Latin-1 bytes stand for themselves, the others from U+0100 up."""
    visible = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    hidden = [byte for byte in range(256) if byte not in visible]
    return {chr(byte): byte for byte in visible} | {
        chr(0x100 + place): byte for place, byte in enumerate(hidden)
    }


_BYTES = _byte_alphabet()


def _byte_level(token: str) -> bytes:
    """A token with a character outside the alphabet was added as plain text."""
    if all(character in _BYTES for character in token):
        return bytes(_BYTES[character] for character in token)
    return token.encode()


def _sentence_piece(token: str) -> bytes:
    """`<0xE2>` is a byte, and U+2581 a space."""
    if len(token) == 6 and token.startswith("<0x") and token.endswith(">"):
        return bytes.fromhex(token[3:5])
    return token.replace("\u2581", " ").encode()
