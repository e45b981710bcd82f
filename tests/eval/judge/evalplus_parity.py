"""Our verdicts beside EvalPlus's own: `python -m tests.eval.judge.evalplus_parity OUT`.

On every reference of HumanEval+ and MBPP+ and on seeded mutants of them. EvalPlus runs in its own
environment (`loopcoder eval setup evalplus`), through its own command, on the same files.
"""

import argparse
import asyncio
import gzip
import json
import os
import subprocess
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from loopcoder.eval.judge import References, Verdict, judge
from loopcoder.eval.judge.evalplus import EVALPLUS
from loopcoder.eval.problems import read_humaneval_plus, read_mbpp_plus
from loopcoder.eval.problems.types import CodeProblem
from loopcoder.eval.sandbox import bubblewrap, cores
from tests.eval.data import DATA
from tests.eval.judge.mutation import mutants

FILES = {"humaneval": "HumanEvalPlus.jsonl.gz", "mbpp": "MbppPlus.jsonl.gz"}
READERS = {"humaneval": read_humaneval_plus, "mbpp": read_mbpp_plus}
OVERRIDES = {"humaneval": "HUMANEVAL_OVERRIDE_PATH", "mbpp": "MBPP_OVERRIDE_PATH"}

# EvalPlus 0.3.1 counts no passed input of find_zero, and so fails every answer, its own among them.
DEFECTS = {"HumanEval/32"}


@dataclass(frozen=True)
class Sample:
    """One program to judge."""

    problem: CodeProblem
    code: str
    mutated: bool


@dataclass(frozen=True)
class Disagreement:
    """What the two say of one sample; `theirs` is EvalPlus's base and plus status."""

    dataset: str
    sample: Sample
    ours: Verdict
    theirs: tuple[str, str]


def samples(problems: list[CodeProblem], mutants_each: int) -> list[Sample]:
    """The reference of every problem, and mutants of it."""
    made = []
    for problem in problems:
        made.append(Sample(problem, problem.reference, False))
        wrong = mutants(problem.reference, problem.id, mutants_each)
        made.extend(Sample(problem, code, True) for code in wrong)
    return made


def evalplus_statuses(
    dataset: str, todo: list[Sample], data: Path, out: Path, parallel: int
) -> list[tuple[str, str]]:
    """EvalPlus's base and plus status of each, by its own command."""
    out.mkdir(parents=True, exist_ok=True)
    ids = {sample.problem.id for sample in todo}
    with gzip.open(data / FILES[dataset], "rt") as lines:
        chosen = [line for line in lines if json.loads(line)["task_id"] in ids]
    problems, answers = out / f"{dataset}.jsonl", out / f"{dataset}_samples.jsonl"
    problems.write_text("".join(chosen), encoding="utf-8")
    rows = [{"task_id": sample.problem.id, "solution": sample.code} for sample in todo]
    answers.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    results = out / f"{dataset}_samples_eval_results.json"
    results.unlink(missing_ok=True)
    command = [str(EVALPLUS.require()), "-m", "evalplus.evaluate", dataset]
    environment = {**os.environ, OVERRIDES[dataset]: str(problems), "XDG_CACHE_HOME": str(out)}
    with (out / f"{dataset}.log").open("wb") as log:
        subprocess.run(
            [*command, "--samples", str(answers), "--parallel", str(parallel)],
            env=environment,
            stdout=log,
            stderr=log,
            check=True,
        )
    evaluated = json.loads(results.read_text("utf-8"))["eval"]
    rest = {name: iter(found) for name, found in evaluated.items()}
    statuses = (next(rest[sample.problem.id]) for sample in todo)
    return [(status["base_status"], status["plus_status"]) for status in statuses]


async def our_verdicts(
    todo: list[Sample], parallel: int, min_seconds: float = 1.0
) -> list[Verdict]:
    """What `judge` says of each."""
    sandbox, references = bubblewrap(), References()
    free = asyncio.Semaphore(parallel)

    async def one(sample: Sample) -> Verdict:
        async with free:
            return await judge(
                sample.problem,
                sample.code,
                sandbox,
                references=references,
                min_seconds=min_seconds,
            )

    return await asyncio.gather(*(one(sample) for sample in todo))


def disagreements(
    dataset: str, todo: list[Sample], ours: list[Verdict], theirs: list[tuple[str, str]]
) -> list[Disagreement]:
    """Where base, or base and plus, differ, EvalPlus's own defects aside."""
    return [
        Disagreement(dataset, sample, verdict, status)
        for sample, verdict, status in zip(todo, ours, theirs, strict=True)
        if sample.problem.id not in DEFECTS
        and (verdict.base, verdict.plus) != (status[0] == "pass", status == ("pass", "pass"))
    ]


def main() -> None:
    """Compare on everything; print counts and each disagreement, keep all in OUT."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--mutants", type=int, default=1, help="of each reference")
    parser.add_argument("--parallel", type=int, default=cores())
    parser.add_argument("--dataset", choices=FILES, action="append")
    parser.add_argument("--stride", type=int, default=1, help="every so many problems")
    parser.add_argument("--only", action="append", help="a problem's id; again for another")
    arguments = parser.parse_args()
    assert DATA is not None, "no benchmark files"
    for dataset in arguments.dataset or FILES:
        problems = [
            problem
            for problem in READERS[dataset](DATA / FILES[dataset])[:: arguments.stride]
            if arguments.only is None or problem.id in arguments.only
        ]
        todo = samples(problems, arguments.mutants)
        start = time.monotonic()
        ours = asyncio.run(our_verdicts(todo, arguments.parallel))
        middle = time.monotonic()
        theirs = evalplus_statuses(dataset, todo, DATA, arguments.out, arguments.parallel)
        end = time.monotonic()
        mutated = [sample.mutated for sample in todo]
        differ = disagreements(dataset, todo, ours, theirs)
        wrong = sum(
            is_mutant and status != ("pass", "pass")
            for is_mutant, status in zip(mutated, theirs, strict=True)
        )
        print(
            f"{dataset}: {len(todo) - sum(mutated)} references, {sum(mutated)} mutants, {wrong} of "
            f"them wrong by EvalPlus; {len(differ)} disagreements; ours {middle - start:.0f} s, "
            f"EvalPlus {end - middle:.0f} s; our reasons {dict(Counter(v.reason for v in ours))}"
        )
        for one in differ:
            kind = "mutant" if one.sample.mutated else "reference"
            print(f"  {one.sample.problem.id} ({kind}): ours {one.ours}, EvalPlus {one.theirs}")
            name = f"{one.sample.problem.id.replace('/', '_')}_{kind}.py"
            (arguments.out / name).write_text(one.sample.code, encoding="utf-8")


if __name__ == "__main__":
    main()
