"""Held-out bits per byte: in process it is `loopcoder perplexity`, an endpoint gives the same."""

import asyncio
import json
import math
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from loopcoder.checkpoint.load import load_model
from loopcoder.checkpoint.tokenizer import load_tokenizer
from loopcoder.errors import DataError, EvaluationError, RequestError
from loopcoder.eval.heldout import DocumentScore, Endpoint, HeldoutResult, Local, bits_per_byte
from loopcoder.eval.heldout.echo import EchoError, read_echo
from loopcoder.train.data.build import BuildOptions, build
from loopcoder.train.text_score import read_windows, score_text
from tests.server.serving import serving
from tests.small import byte_tokenizer, small_model
from tests.train.data_helpers import write_recipe

CODE = "def add(left, right):\n    return left + right  # naïve: 漢字\n"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("heldout") / "small"
    small_model(plt_num_loops=2).save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """A short document, and one of several windows."""
    texts = {"short.py": CODE, "long.py": CODE * 4}
    for name, text in texts.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    return [tmp_path / name for name in texts]


def test_it_is_the_measurement_of_perplexity(checkpoint: Path, files: list[Path]) -> None:
    local = Local(model=str(checkpoint), dtype="float32")
    result = asyncio.run(bits_per_byte(local, files, length=40))
    model, tokenizer = load_model(checkpoint, dtype="float32"), load_tokenizer(checkpoint)
    assert tokenizer is not None
    for path, found in zip(files, result.documents, strict=True):
        expected = score_text(model, read_windows(tokenizer, [path], length=40))
        assert found.document == path.name
        # Fused products round otherwise; measured 1e-7.
        assert found.nats == pytest.approx(expected.nats, rel=1e-5)
        assert found.tokens == expected.tokens == len(path.read_bytes()) - 1
        assert (found.bytes, found.windows) == (expected.bytes, expected.windows)
    nats = sum(document.nats or 0 for document in result.documents)
    size = sum(document.bytes for document in result.documents)
    assert result.estimate is not None
    assert result.estimate.value == pytest.approx(nats / math.log(2) / size)


def test_loops_are_those_asked_for(checkpoint: Path, files: list[Path]) -> None:
    one, two, own = (
        asyncio.run(bits_per_byte(Local(model=str(checkpoint), loops=loops), files[:1], length=40))
        for loops in (1, 2, None)
    )
    assert own.documents == two.documents != one.documents


def test_what_is_known_is_not_scored_again(files: list[Path]) -> None:
    """Nor is a model needed then; a document without a score is not known."""
    known = [DocumentScore(document=path.name, nats=1.0, bytes=2, tokens=2) for path in files]
    gone = Local(model="no/such/directory")
    result = asyncio.run(bits_per_byte(gone, files, known=known))
    assert list(result.documents) == known
    unscored = DocumentScore(document=files[1].name, unscored="the endpoint was down")
    with pytest.raises(FileNotFoundError):
        asyncio.run(bits_per_byte(gone, files, known=[known[0], unscored]))


def test_a_text_without_anything_to_predict_is_unscored(checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "one").write_text("x")
    (tmp_path / "two").write_text("xy")
    local = Local(model=str(checkpoint))
    result = asyncio.run(bits_per_byte(local, [tmp_path / "one", tmp_path / "two"], length=40))
    assert result.documents[0].unscored == "fewer than two tokens"
    assert [document.document for document in result.scored] == ["two"]


def test_no_score_is_no_zero() -> None:
    nothing = DocumentScore(document="a", unscored="timed out")
    assert HeldoutResult((nothing,), "a", "hash", 512).estimate is None
    some = DocumentScore(document="b", nats=math.log(2) * 30, bytes=10, tokens=5)
    estimate = HeldoutResult((nothing, some), "a", "hash", 512).estimate
    assert estimate is not None
    assert (estimate.value, estimate.units, estimate.error) == (pytest.approx(3), 1, None)
    assert nothing.bits_per_byte is None
    assert some.bits_per_byte == pytest.approx(3)


def test_documents_are_spread_evenly(checkpoint: Path, tmp_path: Path) -> None:
    lines = [json.dumps({"text": f"{number} = {number}"}) for number in range(10)]
    (tmp_path / "texts.jsonl").write_text("\n".join(lines))
    local = Local(model=str(checkpoint))
    heard: list[str] = []
    result = asyncio.run(
        bits_per_byte(
            local,
            [tmp_path / "texts.jsonl"],
            length=40,
            limit=3,
            settled=lambda score: heard.append(score.document),
        )
    )
    assert [document.document for document in result.documents] == heard
    assert heard == ["texts.jsonl:1", "texts.jsonl:4", "texts.jsonl:7"]


def test_mistakes_are_named(checkpoint: Path, tmp_path: Path, files: list[Path]) -> None:
    local = Local(model=str(checkpoint))
    (tmp_path / "latin").write_bytes("é".encode("latin-1"))
    for error, message, arguments in (
        (DataError, "latin is not UTF-8", {"data": [tmp_path / "latin"]}),
        (RequestError, "length is 1 ", {"length": 1}),
        (RequestError, "limit 0", {"limit": 0}),
        (RequestError, "length is 257; the model has 256 positions", {"length": 257}),
    ):
        with pytest.raises(error, match=message):
            asyncio.run(bits_per_byte(local, **{"data": files, **arguments}))


@pytest.mark.slow
def test_a_corpus_is_read_in_its_own_tokens(tmp_path: Path) -> None:
    corpus = tmp_path / "corpus"
    build(write_recipe(tmp_path), BuildOptions(out=corpus, quiet=True))
    folder = tmp_path / "small"
    small_model(vocab_size=512, max_position_embeddings=2048).save_pretrained(folder)
    result = asyncio.run(bits_per_byte(Local(model=str(folder)), [corpus], length=64))
    assert result.data == "corpus, held out"
    assert all(document.nats for document in result.documents)
    small_model().save_pretrained(folder)
    with pytest.raises(DataError, match="the model knows 256"):
        asyncio.run(bits_per_byte(Local(model=str(folder)), [corpus], length=64))
    with pytest.raises(DataError, match="holds tokens; give an endpoint files of text"):
        asyncio.run(bits_per_byte(Endpoint(base_url="http://127.0.0.1:1/v1"), [corpus]))


def answer(text: str, tokens: list[str], offsets: list[int], /, **changes: object) -> dict:
    """What an endpoint says to `text`: each token cost its number, and one more was written."""
    report = {
        "tokens": [*tokens, "!"],
        "token_logprobs": [None, *(-float(at) for at in range(1, len(tokens))), -9.0],
        "text_offset": [*offsets, len(text)],
    }
    choice = {"text": text + "!", "logprobs": {**report, **changes}}
    return {"choices": [choice], "usage": {"prompt_tokens": len(tokens)}}


def test_an_echo_without_bos() -> None:
    text = "ab cd é"
    echo = read_echo(text, answer(text, ["ab", " cd", " é"], [0, 2, 5]))
    assert echo.cost(None, known=0) == (1 + 2, len(" cd é".encode()), 2)
    assert echo.border(3, first=True, final=True) is None
    assert echo.border(2, first=True, final=True) == 1
    assert echo.border(2, first=True, final=False) is None, "the cut may have made the tokens"
    assert echo.cost(1, known=0) == (1, 3, 1)
    assert echo.cost(None, known=2) == (1 + 2, len(" cd é".encode()), 2)
    assert echo.cost(None, known=3) == (2, len(" é".encode()), 1)


@pytest.mark.parametrize("shift", [0, 3])
def test_an_echo_with_bos(shift: int) -> None:
    """Whose text some endpoints count in the offsets; it predicts the text's first token."""
    text = "ab cd ef"
    offsets = [0, shift, shift + 2, shift + 5]
    echo = read_echo(text, answer(text, ["<s>", "ab", " cd", " ef"], offsets))
    assert echo.cost(None, known=0) == (1 + 2 + 3, 8, 3)
    assert echo.border(3, first=True, final=True) == 2, "bos is part of the first window"
    assert echo.border(2, first=False, final=True) == 2
    assert echo.cost(None, known=2) == (2 + 3, 6, 2)


def test_a_border_is_a_whole_piece_of_text() -> None:
    text = "a漢 b c"
    tokens = ["a", "bytes:\\xe6\\xbc", "bytes:\\xa2", " b", " c"]
    echo = read_echo(text, answer(text, tokens, [0, 1, 1, 2, 4]))
    assert echo.border(4, first=True, final=True) == 3
    with pytest.raises(EchoError, match="no token of a window"):
        echo.border(3, first=True, final=True)
    silent = read_echo("漢 b", answer("漢 b", ["", "", "漢", " b"], [0, 0, 0, 1]))
    with pytest.raises(EchoError, match="no token of a window"):  # it would begin where it began
        silent.border(3, first=True, final=True)
    drifted = read_echo(text, answer(text, ["a", "\ufffd", "\ufffd", " b", " c"], [0, 1, 2, 3, 5]))
    with pytest.raises(EchoError, match="text_offset 3 does not lead to the token ' b'"):
        drifted.border(4, first=True, final=True)


@pytest.mark.parametrize(
    "broken",
    [
        {},
        [],
        "text",
        {"choices": [{"text": "x", "logprobs": None}], "usage": {"prompt_tokens": 2}},
        {"choices": [], "usage": {"prompt_tokens": 2}},
        answer("ab", ["a", "b"], [0, 1], token_logprobs=[None, "x", 0]),
        answer("ab", ["a", "b"], [0, 1], token_logprobs=[None, math.nan, 0]),
        answer("ab", ["a", "b"], [0, 1], token_logprobs=[None]),
        answer("ab", ["a", "b"], [0, 1], tokens=["a", 3, "!"]),
        answer("ab", ["a", "b"], [0, 1]) | {"usage": {"prompt_tokens": 7}},
        answer("ab", ["a", "b"], [0, 1]) | {"usage": {"prompt_tokens": 0}},
        answer("ab", ["a", "b"], [0, 1]) | {"usage": None},
    ],
)
def test_an_answer_that_is_no_echo(broken: object) -> None:
    with pytest.raises(EchoError):
        read_echo("ab", broken)


Say = Callable[[int, dict], tuple[int, bytes]]


@contextmanager
def saying(say: Say) -> Iterator[str]:
    """An endpoint that answers its n-th request with what `say(n, body)` gives."""
    asked: list[int] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked.append(1)
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            status, raw = say(len(asked), body)
            self.send_response(status)
            self.send_header("Content-Length", str(len(raw)))
            with suppress(ConnectionError):  # a client that does not wait
                self.end_headers()
                self.wfile.write(raw)

        def log_message(self, *_arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def letters(body: dict) -> bytes:
    """An endpoint whose tokens are characters, each a nat."""
    text = body["prompt"]
    told = answer(text, list(text), list(range(len(text))))
    told["choices"][0]["logprobs"]["token_logprobs"][1:] = [-1.0] * len(text)
    return json.dumps(told).encode()


def ask(url: str, files: list[Path], **fields: object) -> HeldoutResult:
    endpoint = Endpoint(base_url=url, **{"model": "m", "pause": 0.0, "connections": 1, **fields})
    return asyncio.run(bits_per_byte(endpoint, files, length=32))


def test_every_character_is_predicted_once(files: list[Path]) -> None:
    """Whatever windows a text is read in."""
    with saying(lambda number, body: (200, letters(body))) as url:
        result = ask(url, files, loops=2)
    for path, score in zip(files, result.documents, strict=True):
        text = path.read_text(encoding="utf-8")
        assert (score.nats, score.tokens) == (len(text) - 1, len(text) - 1)
        assert score.bytes == len(text.encode()) - 1
        assert score.windows == -(-(len(text) - 1) // 31)


def test_a_passing_fault_is_asked_again(files: list[Path]) -> None:
    faults = [(500, b"oops"), (200, b"<html>"), (429, b'{"error": {"message": "full"}}')]

    def say(number: int, body: dict) -> tuple[int, bytes]:
        return faults[number - 1] if number <= len(faults) else (200, letters(body))

    with saying(say) as url:
        assert ask(url, files[:1]).documents[0].nats
    with saying(say) as url:
        score = ask(url, files[:1], attempts=3).documents[0]
    assert (score.nats, score.unscored) == (None, "status 429: full")


def test_a_document_that_is_refused_leaves_the_others(files: list[Path]) -> None:
    def say(number: int, body: dict) -> tuple[int, bytes]:
        refusal = json.dumps({"error": {"message": "the prompt is too long"}}).encode()
        return (400, refusal) if number == 1 else (200, letters(body))

    with saying(say) as url:
        refused, scored = ask(url, files).documents
    assert refused.unscored == "status 400: the prompt is too long"
    assert refused.nats is None
    assert scored.nats


def test_a_dead_endpoint_is_not_asked_for_the_rest(files: list[Path]) -> None:
    with saying(lambda number, body: (200, letters(body))) as url:
        pass
    first, second = ask(url, files).documents
    assert first.unscored is not None
    assert first.unscored.startswith(f"{url}/completions: ")
    assert second.unscored == f"not asked for: {first.unscored}"
    with pytest.raises(EvaluationError, match="/v1/models names no model"):
        ask(url, files, model=None)


def test_a_silent_endpoint_is_not_waited_for(files: list[Path]) -> None:
    ended = threading.Event()

    def say(number: int, body: dict) -> tuple[int, bytes]:
        ended.wait(10)
        return 200, letters(body)

    with saying(say) as url:
        score = ask(url, files[:1], timeout=0.05, attempts=2).documents[0]
        ended.set()
    assert score.unscored == "no answer within 0.05 s"


@pytest.mark.slow
def test_a_served_model_gets_the_scores_it_has_in_process(tmp_path: Path) -> None:
    """One window: the same tokens. Several: cut texts may become other tokens at the cut."""
    texts = {"one.py": CODE, "several.py": Path(json.__file__).read_text(encoding="utf-8")[:5000]}
    for name, text in texts.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    files = [tmp_path / name for name in texts]
    mine, loop_1 = (
        Local(model="loopcoder-nano", dtype="float32", loops=loops) for loops in (None, 1)
    )
    with serving("--dtype", "float32") as server:
        url = f"{server.url}/v1"
        here = asyncio.run(bits_per_byte(mine, files, length=128))
        there = asyncio.run(bits_per_byte(Endpoint(base_url=url), files, length=128))
        served_loop_1 = asyncio.run(bits_per_byte(Endpoint(base_url=url, loops=1), files[:1]))
    one, several = zip(here.documents, there.documents, strict=True)
    assert one[0].windows == one[1].windows == 1
    assert one[1].nats == pytest.approx(one[0].nats, rel=1e-5)  # measured 2e-7
    assert (one[1].bytes, one[1].tokens) == (one[0].bytes, one[0].tokens)
    assert several[0].windows > 6
    assert several[1].nats == pytest.approx(several[0].nats, rel=5e-3)  # measured 1e-3
    # A token across a cut, which was none in the other's tokens, is left out.
    assert 0 <= several[0].bytes - several[1].bytes <= several[0].windows
    assert here.data_hash == there.data_hash
    (expected,) = asyncio.run(bits_per_byte(loop_1, files[:1])).documents
    assert served_loop_1.documents[0].nats == pytest.approx(expected.nats, rel=1e-5)
    assert expected.nats != pytest.approx(one[0].nats, rel=1e-3)
