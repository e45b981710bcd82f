"""`loopcoder probe` given what it cannot use: one line, status 2, nothing left behind."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from loopcoder.cli.main import main
from loopcoder.records.files import read_records
from loopcoder.records.rows import PassageRow, SampleRow
from loopcoder.train.data.build import BuildOptions, build
from tests.probes.models import small_checkpoint
from tests.train.data_helpers import write_recipe

pytestmark = pytest.mark.slow

TEXTS = Path(__file__).parents[2] / "loopcoder" / "probes"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    build(write_recipe(folder), BuildOptions(out=folder / "corpus", quiet=True))
    return folder / "corpus"


def command(monkeypatch: pytest.MonkeyPatch, words: str) -> int:
    """The exit status of the command in this process: mistakes are many, starting up is slow."""
    monkeypatch.setattr(sys, "argv", ["loopcoder", *words.split()])
    with pytest.raises(SystemExit) as end:
        main()
    return int(end.value.code or 0)


SIZES = ("--samples 2", "--length 16")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("nowhere --data {texts}", "nowhere"),
        ("{model} --data {texts} --length 257", "--length is 257; the model has 256 positions"),
        ("{model} --data {texts} --length 99999", "no text of 99999 tokens among"),
        ("{model} --data {texts} --length 1", "length of the samples is 1; it must be 2 or more"),
        ("{model} --data {texts} --samples 0", "count of the samples is 0"),
        ("{model} --data {texts} --per-document 0", "per_document of the samples is 0"),
        ("{model} --data {texts} --batch 0", "--batch is 0; it must be at least 1"),
        ("{model} --data {texts} --threads 0", "--threads is 0"),
        ("{model} --data {texts} --passage-tokens 1", "--passage-tokens is 1"),
        ("{model} --data {texts} --loops 0", "loops is 0"),
        ("{one_loop} --data {texts} --loops 2", "1 loop only, as it has no gates"),
        ("{model} --data {texts} --dtype int8", "int8"),
        ("{model} --data {texts} --device tpu", "tpu"),
        ("{model} --data {texts} --passage {folder}/none.py", "none.py: No such file"),
        ("{model} --data {texts} --passage {empty}", "empty.txt: fewer than two tokens"),
        ("{model} --data {empty}", "empty.txt: is empty"),
        (
            "{model} --data {short}",
            "short.txt: no text of 16 tokens among 1 documents, the longest has 5",
        ),
        ("{model} --data {folder}/none.txt", "none.txt: no such file or directory"),
        ("{model} --data {corpus}", "the model knows 256 tokens; give text that was encoded for"),
        ("{no_tokenizer} --data {texts}", "has no tokenizer, so text cannot be read"),
        ("{model} --data {texts} --convention rank=u", "--convention is 'rank=u'; give name=value"),
        ("{model} --data {texts} --convention rank_state", "--convention is 'rank_state'; give"),
        ("{model} --data {texts} --convention rank_state=x", "rank_state is 'x'; choose one of"),
        ("{model} --data {texts} --convention first_token=-1", "first_token is '-1'; it must be"),
        ("{model} --data {texts} --convention first_token=15", "leave nothing to measure"),
        ("{model} --data {texts} --out {empty}", "empty.txt: File exists; choose a directory"),
        ("{model} --data {texts} --out {empty}/deep", "empty.txt"),
        (
            "{model} --data {texts} --out {taken}",
            "probe.jsonl exists; give another --out, or --force",
        ),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing(
    words: str,
    message: str,
    places: dict[str, Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    given = words.format(**places)
    sizes = [w for w in SIZES if w.split()[0] not in given]
    assert command(monkeypatch, f"probe {given} {' '.join(sizes)}") == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err
    assert err.startswith("error: ")
    assert len(err.splitlines()) == 1
    assert list(tmp_path.rglob("*.jsonl*")) == []
    assert (places["taken"] / "probe.jsonl").read_text() == "kept"


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory, corpus: Path) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("places")
    (folder / "empty.txt").write_text("")
    (folder / "short.txt").write_text("short")
    (folder / "taken").mkdir()
    (folder / "taken" / "probe.jsonl").write_text("kept")
    return {
        "folder": folder,
        "empty": folder / "empty.txt",
        "short": folder / "short.txt",
        "taken": folder / "taken",
        "texts": TEXTS,
        "corpus": corpus,
        "model": small_checkpoint(folder / "model"),
        "one_loop": small_checkpoint(folder / "one", plt_num_loops=1),
        "no_tokenizer": small_checkpoint(folder / "bare", tokenizer=False),
    }


def test_force_replaces_and_a_corpus_needs_no_tokenizer(
    corpus: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    model = small_checkpoint(tmp_path / "wide", tokenizer=False, vocab_size=512)
    (tmp_path / "probe.jsonl").write_text("old")
    words = f"probe {model} --data {corpus} {' '.join(SIZES)} --out {tmp_path} --force"
    assert command(monkeypatch, words) == 0, capsys.readouterr().err
    rows = read_records(tmp_path / "probe.jsonl")
    assert {row.source.data and row.source.data.name for row in rows} == {"corpus, held out"}
    assert all(row.document.startswith("heldout-") for row in rows if isinstance(row, SampleRow))
    (passage,) = (row for row in rows if isinstance(row, PassageRow))
    assert all(token.text.isdecimal() for token in passage.tokens)


DROP = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-all"]
ROOT_WITHOUT_SETPRIV = os.geteuid() == 0 and shutil.which("setpriv") is None


def locked_out(folder: Path) -> tuple[list[str], Path]:
    (folder / "locked").mkdir(mode=0o555)
    return ["--data", str(TEXTS), "--out", str(folder / "locked" / "out")], folder / "locked"


def hidden_out(folder: Path) -> tuple[list[str], Path]:
    (folder / "hidden").mkdir(mode=0)
    return ["--data", str(TEXTS), "--out", str(folder / "hidden" / "out")], folder / "hidden"


def hidden_text(folder: Path) -> tuple[list[str], Path]:
    (folder / "texts").mkdir()
    (folder / "texts" / "a.py").write_text("a = 1\n" * 99)
    (folder / "texts" / "a.py").chmod(0)
    return ["--data", str(folder / "texts"), "--out", str(folder / "out")], folder / "texts"


@pytest.mark.skipif(ROOT_WITHOUT_SETPRIV, reason="root without setpriv may write anywhere")
@pytest.mark.parametrize("place", [locked_out, hidden_out, hidden_text])
def test_what_the_system_refuses_is_one_line(
    place: Callable[[Path], tuple[list[str], Path]], places: dict[str, Path], tmp_path: Path
) -> None:
    words, locked = place(tmp_path)
    done = subprocess.run(
        [
            *(DROP if os.geteuid() == 0 else []),
            *(sys.executable, "-m", "loopcoder", "probe", str(places["model"])),
            *("--samples", "2", "--length", "16", *words),
        ],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    locked.chmod(0o755)
    assert done.returncode == 2, done.stderr
    assert "Permission denied" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert list(tmp_path.rglob("*probe.jsonl*")) == []
