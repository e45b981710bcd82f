"""pass@k against counting by hand, clusters, and what is left out."""

import itertools
from dataclasses import replace
from math import comb

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopcoder.eval.scores import Answer, mean_of, pass_at_k, pass_rates, usual_ks


def _answer(problem: str, sample: int, **scores: float) -> Answer:
    return Answer(problem=problem, sample=sample, scores=scores, reason="")


@given(st.integers(1, 8), st.data())
def test_pass_at_k_is_the_share_of_draws_with_a_right_one(n: int, data: st.DataObject) -> None:
    c, k = data.draw(st.integers(0, n)), data.draw(st.integers(1, n))
    draws = itertools.combinations([True] * c + [False] * (n - c), k)
    assert pass_at_k(n, c, k) == pytest.approx(sum(any(d) for d in draws) / comb(n, k))


@pytest.mark.parametrize(("n", "c", "k"), [(3, 4, 1), (3, -1, 1), (3, 1, 4), (3, 1, 0)])
def test_impossible_counts(n: int, c: int, k: int) -> None:
    with pytest.raises(ValueError, match="give 0 <= c <= n"):
        pass_at_k(n, c, k)


def test_the_error_is_of_problems_and_not_of_answers() -> None:
    few = [_answer(p, 1, **{"pass": float(p == "a")}) for p in "abcd"]
    many = [_answer(a.problem, s, **a.scores) for a in few for s in range(1, 11)]
    (one,), (ten, *_) = pass_rates(few), pass_rates(many, (1,))
    assert one.value == ten.value == 0.25
    assert one.standard_error == pytest.approx(ten.standard_error)  # ten copies tell nothing new
    assert one.standard_error == pytest.approx(0.25)
    assert ten.problems == 4


def test_unscored_is_not_wrong() -> None:
    answers = [_answer("a", 1, **{"pass": 1.0}), _answer("a", 2), _answer("b", 1)]
    (found,) = pass_rates(answers)
    assert (found.value, found.problems, found.standard_error) == (1.0, 1, None)


def test_k_beyond_the_fewest_answers_is_left_out() -> None:
    answers = [_answer("a", s, **{"pass": 1.0, "base": 1.0}) for s in (1, 2)]
    answers += [_answer("b", 1, **{"pass": 0.0, "base": 1.0})]
    assert [e.metric for e in pass_rates(answers, (1, 2))] == ["pass@1", "base pass@1"]


def test_ks_that_people_report() -> None:
    assert usual_ks(1) == (1,)
    assert usual_ks(5) == (1, 5)
    assert usual_ks(200) == (1, 10, 100, 200)


def test_gaps_of_one_function_are_one_cluster() -> None:
    alone = [Answer(problem=f"p{i}", sample=1, scores={"pass": i % 2}, reason="") for i in range(8)]
    same = [
        replace(a, cluster=str(i // 2))
        for i, a in enumerate(sorted(alone, key=lambda a: a.scores["pass"]))
    ]
    (free,), (tied,) = pass_rates(alone), pass_rates(same)
    assert free.value == tied.value == 0.5
    # Four functions of two gaps with the same fate each: the error is that of four answers.
    assert free.standard_error == pytest.approx(0.5 / 7**0.5)
    assert tied.standard_error == pytest.approx(0.5 / 3**0.5)


def test_a_mean_of_one() -> None:
    assert mean_of("x", [0.5]).standard_error is None
