"""Documents of files, JSONL, folders and corpora, and what is refused."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from loopcoder.checkpoint.locate import locate
from loopcoder.checkpoint.tokenizer import load_tokenizer
from loopcoder.engine.vocabulary import TokenTexts
from loopcoder.errors import DataError
from loopcoder.probes import Draw, HeldoutDocuments, TextDocuments, find_documents, survey
from loopcoder.probes.samples import Documents
from loopcoder.probes.texts import STANDARD_LIBRARY
from loopcoder.train.data.build import BuildOptions, build
from loopcoder.train.data.corpus import read_split
from tests.small import byte_tokenizer
from tests.train.data_helpers import write_recipe

BYTES = byte_tokenizer()  # a token a byte
HERE = Path("model")


def find(*paths: Path) -> Documents:
    return find_documents(paths, BYTES, HERE)


def texts_of(documents: Documents) -> dict[str, str]:
    """By name, what the tokens of each document stand for."""
    found = {}
    for i in range(len(documents)):
        document = documents[i]
        ids = document.window(0, len(document)).token_ids if len(document) else []
        assert document.name not in found
        found[document.name] = BYTES.decode(ids)
    return found


def write(path: Path, text: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_each_file_is_a_document(tmp_path: Path) -> None:
    one, two = write(tmp_path / "one.py", "x = 1\n"), write(tmp_path / "two.txt", "naïve 漢字")
    documents = find(one, two)
    assert documents.name == "one.py, two.txt"
    assert texts_of(documents) == {"one.py": "x = 1\n", "two.txt": "naïve 漢字"}


def test_each_line_of_jsonl_is_a_document(tmp_path: Path) -> None:
    """Also where a text holds characters that end lines elsewhere."""
    texts = ["one", "two\nlines", "three\u2028separated\x85", ""]
    lines = [json.dumps({"text": text, "id": 3}, ensure_ascii=False) for text in texts]
    path = write(tmp_path / "texts.jsonl", "\n".join([lines[0], "", *lines[1:]]) + "\n")
    expected = {f"texts.jsonl:{line}": text for line, text in zip((1, 3, 4, 5), texts, strict=True)}
    assert texts_of(find(path)) == expected


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"body": "x"}', 'line 2: no "text" field'),
        ('{"text": 3}', 'line 2: no "text" field'),
        ('["text"]', 'line 2: no "text" field'),
        ('{"text": "x"', "line 2: not JSON"),
    ],
)
def test_a_line_without_text_is_named(tmp_path: Path, line: str, message: str) -> None:
    path = write(tmp_path / "texts.jsonl", f'{{"text": "fine"}}\n{line}\n')
    with pytest.raises(DataError, match=f"texts.jsonl, {message}"):
        find(path)


def test_a_folder_gives_its_texts_and_leaves_the_rest(tmp_path: Path) -> None:
    write(tmp_path / "src" / "a.py", "a = 1")
    write(tmp_path / "src" / "deep" / "b.c", "int b;")
    write(tmp_path / "src" / "chinese.txt", "漢" * 3000)  # no character ends at byte 4,096
    write(tmp_path / "src" / "picture.png", b"\x89PNG\r\n\x1a\n\0\0")
    write(tmp_path / "src" / "zeros", b"text\0text")
    write(tmp_path / "src" / "mark", b"\xff\xfe")
    write(tmp_path / "src" / "latin", "é".encode("latin-1") * 9)
    write(tmp_path / "src" / ".git" / "config", "hidden")
    write(tmp_path / "src" / ".hidden", "hidden")
    (tmp_path / "src" / "dangling").symlink_to(tmp_path / "nowhere")
    found = texts_of(find(tmp_path / "src"))
    assert found == {"a.py": "a = 1", "deep/b.c": "int b;", "chinese.txt": "漢" * 3000}


def test_documents_of_one_name_are_told_apart(tmp_path: Path) -> None:
    """Samples of one document count as one, so two texts must not share a name."""
    one = write(tmp_path / "one" / "main.py", "one" * 9)
    two = write(tmp_path / "two" / "main.py", "two" * 9)
    found = texts_of(find(one, two))
    assert sorted(found.values()) == ["one" * 9, "two" * 9]
    found = texts_of(find(one.parent, two.parent))
    assert sorted(found.values()) == ["one" * 9, "two" * 9]
    assert survey(Draw(documents=find(one, two), length=5, count=9)).documents == 2


def test_a_text_given_twice_is_one_document(tmp_path: Path) -> None:
    one = write(tmp_path / "one.py", "one" * 9)
    assert texts_of(find(one, one, tmp_path)) == {"one.py": "one" * 9}


def test_the_place_is_named_where_a_path_has_no_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "src" / "a.py", "a = 1")
    monkeypatch.chdir(tmp_path / "src")
    assert find(Path()).name == "src"


def test_without_data_the_standard_library_is_read() -> None:
    documents = find()
    assert documents.name == STANDARD_LIBRARY
    assert len(documents) > 100
    assert len(documents[0]) > 0


def no_such(folder: Path) -> Path:
    return folder / "missing.txt"


def empty(folder: Path) -> Path:
    return write(folder / "empty.txt", "")


def blank(folder: Path) -> Path:
    return write(folder / "blank.txt", " \n\t\n")


def latin(folder: Path) -> Path:
    return write(folder / "latin.txt", "é".encode("latin-1"))


def binaries(folder: Path) -> Path:
    return write(folder / "bin" / "a.out", b"\x7fELF\0\0").parent


def empty_jsonl(folder: Path) -> Path:
    return write(folder / "none.jsonl", "\n")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (no_such, "missing.txt: no such file or directory"),
        (empty, "empty.txt: is empty"),
        (blank, "blank.txt: is empty"),
        (latin, "latin.txt is not UTF-8 text"),
        (binaries, "bin: no text files"),
        (empty_jsonl, "none.jsonl: no text"),
    ],
)
def test_what_holds_no_text_is_refused(
    make: Callable[[Path], Path], message: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=message):
        find(make(tmp_path))


def test_text_needs_a_tokenizer() -> None:
    with pytest.raises(DataError, match="model has no tokenizer, so text cannot be read"):
        find_documents([], None, HERE)


@pytest.mark.parametrize("tokenizer", ["bytes", "nano"])
def test_bytes_of_windows_add_up_to_those_of_the_text(tokenizer: str, tmp_path: Path) -> None:
    """Of windows that share a token, and of the first token, which nothing predicts."""
    text = "def naïve(漢字):\n\treturn '𝄞' * 2  # ümlaut\n" * 20
    found = BYTES if tokenizer == "bytes" else load_tokenizer(locate("loopcoder-nano"))
    assert found is not None
    (document,) = TextDocuments(found, [write(tmp_path / "text.py", text)])
    for length in (2, 7, 50):
        windows = [document.window(i, length) for i in range(0, len(document) - 1, length - 1)]
        first = len(found.decode(list(document.window(0, 1).token_ids)).encode())
        assert sum(window.bytes for window in windows) + first == len(text.encode())
        ids = [i for window in windows for i in window.token_ids[1:]]
        assert found.decode([*document.window(0, 1).token_ids, *ids]) == text


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    build(write_recipe(folder), BuildOptions(out=folder / "corpus", quiet=True))
    return folder / "corpus"


def test_a_corpus_gives_its_held_out_documents(corpus: Path) -> None:
    documents = find(corpus)
    assert isinstance(documents, HeldoutDocuments)
    assert documents.name == "corpus, held out"
    tokenizer = load_tokenizer(corpus / "tokenizer")
    assert tokenizer is not None
    found = []
    for i in range(len(documents)):
        whole = documents[i].window(0, len(documents[i]))
        text = tokenizer.decode(list(whole.token_ids), skip_special_tokens=True)
        assert whole.bytes == len(text.encode())
        found.append(text)
    expected = [document.text for document in read_split(corpus / "corpus", "heldout")]
    assert sorted(found) == sorted(expected)


def test_windows_of_a_corpus_lie_within_one_document(corpus: Path) -> None:
    documents = HeldoutDocuments(corpus)
    ids = [documents[i].window(0, len(documents[i])).token_ids for i in range(len(documents))]
    texts = TokenTexts(load_tokenizer(corpus / "tokenizer"))
    for sample in Draw(documents=documents, length=40, count=30, per_document=2):
        whole = ids[int(sample.document.removeprefix("heldout-"))]
        assert list(whole[sample.start : sample.start + 40]) == list(sample.token_ids)
        predicted = [i for i in sample.token_ids[1:] if i not in texts.special]
        assert sample.bytes == sum(len(texts.bytes(i)) for i in predicted)


def test_a_corpus_stands_alone(corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="a corpus directory stands alone"):
        find(corpus, write(tmp_path / "more.txt", "more"))
    assert len(find_documents([corpus], None, HERE)) > 0  # its tokens need no tokenizer
