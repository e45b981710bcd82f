"""Mind2Web's steps as inspect_evals asks and scores them, from local files.

A program for the Python that has inspect_evals (never imported by this one): `mind2web.py` starts
it with one argument, a JSON object; it writes what it found to that object's `report`.
"""

import hashlib
import json
import pickle
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from datasets import load_dataset
from inspect_ai import Task, eval_set, task
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.log import EvalLog, EvalSample, read_eval_log
from inspect_ai.scorer import SampleScore
from inspect_evals.mind2web.dataset import SCORES_SHA256, format_sample
from inspect_evals.mind2web.prompts import TASK_PROMT, load_llm_prompt
from inspect_evals.mind2web.scorer import (
    action_f1,
    element_accuracy,
    mind2web_scorer,
    step_success_rate,
    task_success_rate,
)
from inspect_evals.mind2web.solver import solve

# All but the screenshots, which are most of the bytes and which no text model sees.
COLUMNS = [
    "annotation_id",
    "action_uid",
    "action_reprs",
    "target_action_index",
    "pos_candidates",
    "neg_candidates",
    "cleaned_html",
    "operation",
    "confirmed_task",
]


@task
def mind2web(data: str, split: str, limit: int | None = None) -> Task:
    """Steps of `split`, read from `data`; the prompt and the scorer are inspect_evals' own."""
    ranks = _ranks(Path(data))
    samples = [_sample(row, ranks) for row in _rows(data, split, limit)]
    return Task(
        dataset=MemoryDataset(samples, name="mind2web"),
        solver=[solve(TASK_PROMT, messages=load_llm_prompt())],
        scorer=[mind2web_scorer()],
    )


def _rows(data: str, split: str, limit: int | None) -> Iterator[dict[str, Any]]:
    """As many rows as are wanted, read in a stream: the files are of many gigabytes."""
    files = sorted(str(file) for file in Path(data).glob(f"**/{split}*") if file.is_file())
    kind = "parquet" if files[0].endswith(".parquet") else "json"
    rows = load_dataset(kind, data_files={split: files}, split=split, streaming=True)
    yield from islice(rows.select_columns(COLUMNS), limit)


def _sample(row: dict[str, Any], ranks: dict[str, Any]) -> Sample:
    try:
        sample: Sample = format_sample(row, {}, ranks)
    except KeyError as error:
        step = f"{row['annotation_id']}_{row['action_uid']}"
        sys.exit(f"step {step}: {error} is not in the scores; another version of the data?")
    return sample


def _ranks(data: Path) -> dict[str, Any]:
    """Ranks of each step's page elements: the published pickle, or the same as JSON.

    A pickle may run code, so only the published one is opened.
    """
    text = data / "scores_all_data.json"
    if text.exists():
        return dict(json.loads(text.read_text())["ranks"])
    pickled = (data / "scores_all_data.pkl").read_bytes()
    if hashlib.sha256(pickled).hexdigest() != SCORES_SHA256:
        sys.exit(f"{data}/scores_all_data.pkl is not the published file; it is not opened")
    return dict(pickle.loads(pickled)["ranks"])


def _scores(log: EvalLog) -> tuple[list[tuple[str, SampleScore]], list[str]]:
    """Scored answers by step, and the steps whose answer never came."""
    scored, left = [], []
    for sample in log.samples or []:
        step, score = str(sample.id), _score(sample)
        if score is None:
            left.append(step)
        else:
            scored.append((step, score))
    return scored, left


def _score(sample: EvalSample) -> SampleScore | None:
    found = (sample.scores or {}).get("mind2web_scorer")
    return None if sample.error or found is None else SampleScore(score=found)


def _report(log: EvalLog) -> dict[str, Any]:
    scored, left = _scores(log)
    scores = [score for _, score in scored]
    measures = (element_accuracy(), action_f1(), step_success_rate(), task_success_rate())
    names = ("element accuracy", "action F1", "step success", "task success")
    return {
        "metrics": {
            name: measure(scores) for name, measure in zip(names, measures, strict=True) if scores
        },
        "steps": [
            [step, (score.score.metadata or {})["task_id"], step_success_rate()([score])]
            for step, score in scored
        ],
        "unscored": left,
    }


def main() -> None:
    """Ask and score what the argument says; steps that an earlier run scored are kept."""
    told = json.loads(sys.argv[1])
    _, logs = eval_set(
        mind2web(told["data"], told["split"], told["limit"]),
        log_dir=told["logs"],
        model=f"openai-api/loopcoder/{told['model']}",
        epochs=told["n"],
        temperature=told["temperature"],
        max_tokens=told["max_tokens"],
        extra_body=None if told["loops"] is None else {"loops": told["loops"]},
        max_connections=told["workers"],
        max_retries=2,
        # All steps are asked, and a run with failed ones is one to go on with.
        fail_on_error=True,
        continue_on_fail=True,
        retry_attempts=0,
        # A log that was cut off before it named its task cannot be gone on with, nor be in the way.
        log_dir_allow_dirty=True,
        ctl_server=False,
        display="plain",
    )
    report = _report(read_eval_log(logs[0].location))
    Path(told["report"]).write_text(json.dumps(report))


if __name__ == "__main__":
    main()
