"""What `bfcl evaluate`, the leaderboard's own command, says of the attempts.

    python -m tests.eval.bfcl.command [v3|v4] [--record]

compares all of them with ours; it needs all of bfcl-eval's dependencies. With `--record` the
verdicts on every 20th question are kept in verdicts.json, for machines that do not have them.
"""

import csv
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from loopcoder.eval.bfcl import Bridge, summary
from loopcoder.eval.bfcl.summary import category_of
from tests.eval.bfcl.answers import (
    Key,
    data_directory,
    environment_of_cli,
    interpreter,
    keys,
    rows,
)
from tests.eval.bfcl.attempts import called, prompted

RECORD = Path(__file__).with_name("verdicts.json")
EVERY = 20
MODELS = {"prompt": "gpt-4o-2024-11-20", "tools": "gpt-4o-2024-11-20-FC"}
Attempts = dict[str, dict[str, Any]]  # by category: question id to answer


def attempts(python: Path, version: str, mode: str, every: int = 1) -> Attempts:
    found: Attempts = {}
    make = prompted if mode == "prompt" else called
    with Bridge(python) as bridge:
        for category in bridge.categories(["single_turn"]):
            path = data_directory(python) / f"BFCL_{version}_{category}.json"
            answers = keys(python, version, category)
            ids = [row["id"] for row in rows(path)]
            known: list[Key | None] = list(answers) if answers else [None] * len(ids)
            found[category] = {
                id: make(key, category, number)
                for number, (id, key) in enumerate(zip(ids, known, strict=True))
                if number % every == number // every % every  # every kind of attempt among them
            }
    return found


def theirs(python: Path, version: str, mode: str, given: Attempts, root: Path) -> dict[str, str]:
    """The error's name by question, "" where it is right, as the command's score files say."""
    model = MODELS[mode]
    for category, answers in given.items():
        path = root / "result" / model / f"BFCL_{version}_{category}_result.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = [json.dumps({"id": id, "result": answer}) for id, answer in answers.items()]
        path.write_text("\n".join(lines), encoding="utf-8")
    command = [python, "-m", "bfcl_eval", "evaluate", "--model", model]
    if version == "v4":
        command.append("--partial-eval")  # v3 wants all questions of a category
    for category in given:
        command += ["--test-category", category]
    subprocess.run(
        command, env=environment_of_cli(python, root), check=True, capture_output=True, cwd=root
    )
    found = {id: "" for answers in given.values() for id in answers}
    for category in given:
        (score,) = (root / "score" / model).rglob(f"BFCL_{version}_{category}_score.json")
        head, *wrong = rows(score)
        assert head["total_count"] - head["correct_count"] == len(wrong)
        found |= {each["id"]: each["error_type"] for each in wrong}
    return found


def their_averages(root: Path) -> dict[str, float]:
    """Non-live and live, as the command's tables have them: shares, rounded to a ten thousandth."""
    found = {}
    for name, column in (("non_live", "Non-Live"), ("live", "Live")):
        with (root / "score" / f"data_{name}.csv").open(encoding="utf-8", newline="") as file:
            (row,) = csv.DictReader(file)
        values = {key.replace("_", "-"): value for key, value in row.items()}
        found[name] = float(values[f"{column} Overall Acc"].rstrip("%")) / 100
    return found


def ours(python: Path, mode: str, given: Attempts) -> dict[str, str]:
    """The same from the bridge."""
    with Bridge(python) as bridge:
        checked = {
            id: bridge.check(id, "tools" if mode == "tools" else "prompt", answer)
            for answers in given.values()
            for id, answer in answers.items()
        }
    return {id: "" if each.valid else each.reason for id, each in checked.items()}


def same(command: str, bridge: str) -> bool:
    """Whether a verdict is the same; what the command calls decoder errors is "no_call" here."""
    renamed = {"irrelevance_error:decoder_success": "needless_call"}
    no_call = command.startswith("ast_decoder:") or command == "relevance_error:decoder_failed"
    return bridge == ("no_call" if no_call else renamed.get(command, command))


def main() -> None:
    version = "v3" if "v3" in sys.argv else "v4"
    python = interpreter(version)
    record = {}
    for mode in MODELS:
        given = attempts(python, version, mode)
        with tempfile.TemporaryDirectory() as root:
            command = theirs(python, version, mode, given, Path(root))
            averages = their_averages(Path(root))
        bridge = ours(python, mode, given)
        other = [id for id in command if not same(command[id], bridge[id])]
        right = sum(not reason for reason in command.values())
        print(f"{mode}: {len(command)} answers, {right} right by the command, {len(other)} differ")
        for id in other:
            print(f"  {id}: {command[id]!r} and {bridge[id]!r}")
        mine = summary(((category_of(id), float(not each)) for id, each in bridge.items()), version)
        print("  " + ", ".join(f"{k}: {v:.4f} and {mine[k]:.4f}" for k, v in averages.items()))
        kept = attempts(python, version, mode, EVERY)
        record[mode] = {id: command[id] for answers in kept.values() for id in answers}
    if "--record" in sys.argv:
        RECORD.write_text(json.dumps(record, indent=0) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
