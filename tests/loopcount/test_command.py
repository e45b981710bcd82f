"""`loopcoder advise` as a process."""

import json
import subprocess
import sys
from pathlib import Path

from tests.cli.run import loopcoder
from tests.loopcount.rows import bench, trained_at, write, write_json


def _study(directory: Path, *, noise: float = 0.01) -> None:
    for loops, level in ((1, 1.80), (2, 1.75)):
        run = trained_at(loops, level, noise=noise)
        write(directory / f"r{loops}" / "probe.jsonl", list(run.rows))
    write_json(directory / "decode.json", bench({1: 0.010, 2: 0.011}))


def test_published_values_as_json() -> None:
    done = loopcoder("advise", "--published", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["recommended_loops"] == 2
    assert done.stderr == ""


def test_the_recommendation_comes_first(tmp_path: Path) -> None:
    _study(tmp_path)
    done = loopcoder("advise", str(tmp_path))
    assert done.returncode == 0, done.stderr
    first = done.stdout.strip().splitlines()[0]
    assert first == "Train and run 2 loops: likely."
    for word in ("Why", "Gain of each loop", "Cost", "What would change it", "1.100"):
        assert word in done.stdout


def test_cannot_tell_is_an_answer(tmp_path: Path) -> None:
    _study(tmp_path, noise=0.5)
    done = loopcoder("advise", str(tmp_path), "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["recommended_loops"] is None
    shown = loopcoder("advise", str(tmp_path))
    assert shown.stdout.strip().startswith("How many loops to train and run: cannot tell.")


def test_names_with_brackets_are_shown_as_they_are(tmp_path: Path) -> None:
    _study(tmp_path / "[bold]x[/red]")
    done = loopcoder("advise", str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert "[bold]x[/red]" in done.stdout.replace("\n", "")


def test_errors_are_one_line() -> None:
    for arguments, words in (
        (["advise"], "no RUN is given"),
        (["advise", "/nowhere"], "/nowhere: No such file"),
        (["advise", "--published", "--max-latency", "0.5"], "--max-latency is 0.5"),
    ):
        done = loopcoder(*arguments)
        assert done.returncode == 2
        assert words in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1


def test_no_torch() -> None:
    code = (
        "import sys; sys.argv = ['loopcoder', 'advise', '--published', '--json']\n"
        "from loopcoder.cli.main import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print('torch' in sys.modules, 'transformers' in sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "False False"
