"""The tasks by name, and streams of questions of either split."""

from collections.abc import Collection, Iterator, Sequence
from itertools import islice
from random import Random

from loopcoder.depth.arithmetic import arithmetic
from loopcoder.depth.brackets import brackets
from loopcoder.depth.chains import chains
from loopcoder.depth.induction import induction
from loopcoder.depth.programs import programs
from loopcoder.depth.question import MODES, Question, Split, Task
from loopcoder.errors import ConfigError

TASKS: dict[str, Task] = {
    "chains": chains,
    "brackets": brackets,
    "programs": programs,
    "arithmetic": arithmetic,
    "induction": induction,
}
_DRAWS = 20  # a question wanted: enough to find all there are where they are few


def questions(task: str, hops: int, split: Split, seed: int) -> Iterator[Question]:
    """Questions of one task and depth that belong to `split`, without end, in an order of `seed`.

    Where fewer different ones exist than are taken, they repeat.
    """
    rng = Random(f"{seed} {task} {hops} {split}")
    while True:
        question = TASKS[task](rng, hops)
        if question.split == split:
            yield question


def different_questions(
    task: str, hops: int, split: Split, seed: int, count: int
) -> list[Question]:
    """The first `count` of `questions` that differ in statement or first query.

    Fewer where there are fewer: arithmetic of one hop has 6 questions to test with.
    """
    found: dict[tuple[str, str], Question] = {}
    for question in islice(questions(task, hops, split, seed), _DRAWS * count):
        found.setdefault((question.statement, question.queries[0].ask), question)
        if len(found) == count:
            break
    return list(found.values())


def check_choice(owner: str, tasks: Sequence[str], modes: Sequence[str]) -> None:
    """Raise `ConfigError`, naming `owner`.tasks or `owner`.modes, for none, twice or unknown."""
    _check_names(f"{owner}.tasks", tasks, TASKS)
    _check_names(f"{owner}.modes", modes, MODES)


def _check_names(field: str, given: Sequence[str], known: Collection[str]) -> None:
    if not given or len(set(given)) < len(given) or not set(given) <= set(known):
        raise ConfigError(f"{field} is {list(given)}; give different ones of {', '.join(known)}")
