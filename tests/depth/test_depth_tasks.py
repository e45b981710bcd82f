"""The generated tasks: true answers, honest depths, splits that have nothing in common."""

from collections import Counter
from itertools import islice
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loopcoder.depth.question import DIRECT, END, MAX_HOPS, MODES, STEPS, Question
from loopcoder.depth.tasks import TASKS, check_choice, different_questions, questions
from loopcoder.errors import ConfigError
from tests.depth.solvers import CLOSES, OPENS, SOLVERS, on_the_way

DEPTHS = (1, 2, 5, 8, MAX_HOPS)
each_task = pytest.mark.parametrize("task", TASKS)
each_depth = pytest.mark.parametrize("hops", DEPTHS)


def draw(task: str, hops: int, count: int, seed: int = 0, split: str = "test") -> list[Question]:
    return list(islice(questions(task, hops, split, seed), count))  # type: ignore[arg-type]


@each_task
@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32), hops=st.integers(1, MAX_HOPS))
def test_answers_and_steps_are_true(task: str, seed: int, hops: int) -> None:
    question = TASKS[task](Random(seed), hops)
    assert (question.task, question.hops) == (task, hops)
    for query in question.queries:
        assert SOLVERS[task](question.statement, query.ask) == (query.steps, query.answer)


@each_task
@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32), hops=st.integers(1, MAX_HOPS))
def test_texts(task: str, seed: int, hops: int) -> None:
    """Visible ASCII, whose marks stand around answers only."""
    question = TASKS[task](Random(seed), hops)
    first = question.queries[0]
    for mode in MODES:
        text = question.text(mode)
        assert text.isascii()
        assert all(33 <= ord(character) < 127 for character in text)
        prompt = question.statement + first.prompt(mode)
        assert text.startswith(prompt + first.continuation(mode))
        assert not set(prompt[:-1]) & {DIRECT, STEPS, END}
        assert text.count(END) == (1 if mode == "steps" else len(question.queries))
        assert prompt[-1] == (DIRECT if mode == "direct" else STEPS)
        assert len(first.answer) == 1


@each_task
def test_a_seed_says_which_questions(task: str) -> None:
    first = draw(task, 6, 30)
    assert draw(task, 6, 30) == first
    others = (
        draw(task, 6, 30, seed=1),
        draw(task, 7, 30),
        draw(task, 6, 30, split="train"),
    )
    for other in others:
        assert len([question for question in other if question in first]) < 3


@each_task
@pytest.mark.parametrize("hops", [1, 2, 7])
def test_splits_have_nothing_in_common(task: str, hops: int) -> None:
    def asked(split: str) -> set[str]:
        drawn = draw(task, hops, 1500, split=split)
        assert {question.split for question in drawn} == {split}
        return {question.statement + question.queries[0].ask for question in drawn}

    assert not asked("train") & asked("test")


def test_an_eighth_is_for_testing() -> None:
    rng = Random(0)
    drawn = [TASKS["chains"](rng, 4).split for _ in range(2000)]
    assert 0.1 < drawn.count("test") / 2000 < 0.15


@each_depth
def test_chains_are_as_long_as_they_say(hops: int) -> None:
    """The first query is `hops` copies from its number, the others at most that many."""
    for question in draw("chains", hops, 40):
        first, *others = question.queries
        assert len(first.steps) == hops
        assert max(len(query.steps) for query in others) <= hops
        assert len({query.answer for query in question.queries}) <= 3


@each_depth
def test_every_operation_of_a_program_decides(hops: int) -> None:
    """Another operand on the way changes the answer, but of 0 * x; elsewhere it changes nothing."""
    for question in draw("programs", hops, 25):
        (query,) = question.queries
        way = on_the_way(question.statement, query.ask)
        assert len(way) == hops
        assert len(query.steps) == hops - 1
        for line, start in enumerate(_line_starts(question.statement)):
            if question.statement[start + 1].isdigit():
                continue
            changed = _another_operand(question.statement, start + 2)
            found = SOLVERS["programs"](changed, query.ask)[1]
            of_nothing = (
                question.statement[start + 2] == "*"
                and (
                    SOLVERS["programs"](
                        question.statement[:start] + ":", question.statement[start + 1]
                    )
                )[1]
                == "0"
            )
            assert (found != query.answer) == (line in way and not of_nothing)


@each_depth
def test_every_operation_of_arithmetic_decides(hops: int) -> None:
    """Another operand changes the answer, but of 0 * x; another first number always does."""
    for question in draw("arithmetic", hops, 25):
        (query,) = question.queries
        assert len(query.ask) == 1 + 2 * hops
        values = query.ask[0] + query.steps
        for number, value in enumerate(values):
            place = 1 + 2 * number
            found = SOLVERS["arithmetic"]("", _another_operand(query.ask, place))[1]
            of_nothing = query.ask[place] == "*" and value == "0"
            assert (found != query.answer) == (not of_nothing)
        first = {SOLVERS["arithmetic"]("", str(each) + query.ask[1:])[1] for each in range(5)}
        assert len(first) == 5


def _line_starts(statement: str) -> list[int]:
    """Where a program's lines begin: `a3,` are three characters, `ab+4,` five."""
    starts = [0]
    while statement[starts[-1]] != ":":
        starts.append(starts[-1] + (5 if statement[starts[-1] + 1].isalpha() else 3))
    return starts[:-1]


def _another_operand(text: str, sign: int) -> str:
    """The operation whose sign stands at `sign`, with the next number that differs modulo 5."""
    low = 2 if text[sign] == "*" else 1
    number = int(text[sign + 1])
    return f"{text[: sign + 1]}{number + 1 if number < 4 else low}{text[sign + 2 :]}"


@each_depth
def test_brackets_are_as_deep_as_they_say(hops: int) -> None:
    """Above the last bracket that stays open, the rest nests `hops` deep (and one, if aside)."""
    for question in draw("brackets", hops, 40):
        (query,) = question.queries
        depths = [int(letter, 36) for letter in query.steps]
        assert hops <= max(depths) - depths[-1] <= hops + 1


@each_depth
def test_counting_does_not_find_the_bracket(hops: int) -> None:
    """The bracket whose place is the number of those that stay open is often another."""
    right = 0
    for question in draw("brackets", hops, 200):
        (query,) = question.queries
        open_at_the_end = int(query.steps[-1], 36)
        counted = query.ask[open_at_the_end - 1]
        right += counted in OPENS and CLOSES[OPENS.index(counted)] == query.answer
    assert right < 140


@each_depth
def test_induction_hops_as_often_as_it_says(hops: int) -> None:
    for question in draw("induction", hops, 40):
        (query,) = question.queries
        assert len(query.steps) == hops - 1
        assert int(query.ask.split("|")[0], 36) == hops


@each_task
@pytest.mark.parametrize("hops", [3, 8, MAX_HOPS])
def test_no_one_answer_is_right_often(task: str, hops: int) -> None:
    """The best constant is near one in the number of answers."""
    answers = Counter(question.queries[0].answer for question in draw(task, hops, 600))
    assert len(answers) == ANSWERS[task]
    assert answers.most_common(1)[0][1] / 600 < 1 / ANSWERS[task] + 0.07


ANSWERS = {"chains": 10, "brackets": 3, "programs": 5, "arithmetic": 5, "induction": 4}


@each_task
def test_different_questions(task: str) -> None:
    found = different_questions(task, 3, "test", 5, 50)
    asked = [question.statement + question.queries[0].ask for question in found]
    assert len(set(asked)) == len(asked) == 50
    assert found[0] == draw(task, 3, 1, seed=5)[0]
    assert different_questions(task, 3, "test", 5, 20) == found[:20]


def test_where_there_are_few_all_of_them_are_taken() -> None:
    """Arithmetic of one hop: 5 numbers and 4 + 4 + 3 operations, an eighth of which tests."""
    asked = {question.queries[0].ask for question in draw("arithmetic", 1, 4000)}
    found = different_questions("arithmetic", 1, "test", 0, 100)
    assert {question.queries[0].ask for question in found} == asked
    assert len(found) == len(asked) == 6


@pytest.mark.parametrize(
    ("tasks", "modes", "named"),
    [
        ((), MODES, r"mix\.tasks is \[\]"),
        (("chains", "chains"), MODES, r"mix\.tasks is \['chains', 'chains'\]"),
        (("chain",), MODES, r"mix\.tasks is \['chain'\]; give different ones of chains, brackets"),
        (("chains",), (), r"mix\.modes is \[\]; give different ones of direct, steps"),
        (("chains",), ("slow",), r"mix\.modes is \['slow'\]"),
    ],
)
def test_choices_that_cannot_be(tasks: tuple[str, ...], modes: tuple[str, ...], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        check_choice("mix", tasks, modes)
