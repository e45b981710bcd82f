import pytest

from loopcoder.eval.bfcl import summary
from loopcoder.eval.bfcl.summary import category_of, estimates
from loopcoder.eval.scores import PASS, Answer

V4 = [
    "simple_python",
    "simple_java",
    "simple_javascript",
    "multiple",
    "parallel",
    "parallel_multiple",
    "live_simple",
    "live_multiple",
    "live_parallel",
    "live_parallel_multiple",
]


def scores(*wrong: str) -> list[tuple[str, float]]:
    """One right answer a category, and of those named a wrong one besides."""
    return [(name, 1.0) for name in V4] + [(name, 0.0) for name in wrong]


def test_non_live_is_a_mean_of_categories_and_live_of_questions() -> None:
    found = summary(scores("simple_java", "parallel", "live_multiple", "live_multiple"))
    assert found["simple_java"] == found["parallel"] == 0.5
    assert found["live_multiple"] == pytest.approx(1 / 3)
    simple = (1 + 0.5 + 1) / 3
    assert found["non_live"] == pytest.approx((simple + 1 + 0.5 + 1) / 4)
    assert found["live"] == pytest.approx(4 / 6)


def test_v4_leaves_irrelevance_out_of_the_averages_and_v3_does_not() -> None:
    refusals = [("irrelevance", 0.0), ("live_irrelevance", 0.0), ("live_relevance", 1.0)]
    new = summary([*scores(), *refusals])
    assert (new["non_live"], new["live"], new["irrelevance"]) == (1.0, 1.0, 0.0)
    names = {"simple_python": "simple", "simple_java": "java", "simple_javascript": "javascript"}
    old = summary([(names.get(n, n), v) for n, v in [*scores(), *refusals]], "v3")
    assert old["non_live"] == pytest.approx(4 / 5)
    assert old["live"] == pytest.approx(5 / 6)


def test_an_average_without_one_of_its_categories_is_not_given() -> None:
    some = [each for each in scores() if each[0] not in ("simple_java", "live_parallel")]
    found = summary(some)
    assert "non_live" not in found
    assert "live" not in found
    assert summary([]) == {}


def test_category_of_every_kind_of_id() -> None:
    assert category_of("simple_python_12") == "simple_python"
    assert category_of("live_parallel_multiple_3-2-0") == "live_parallel_multiple"


def answer(problem: str, value: float | None, sample: int = 1) -> Answer:
    given = {} if value is None else {PASS: value}
    return Answer(problem=problem, sample=sample, scores=given, reason="")


def test_estimates_have_the_summary_s_values_and_errors_by_question() -> None:
    answers = [answer(f"{name}_{n}", float(n > 1)) for name in V4 for n in range(4)]
    answers += [answer("multiple_9", 1.0, 1), answer("multiple_9", 0.0, 2)]
    answers.append(answer("multiple_10", None))  # unscored: not there
    found = {each.metric: each for each in estimates(answers)}
    assert list(found)[:3] == ["accuracy", "non_live", "live"]
    assert found["multiple"].problems == 5
    assert found["multiple"].value == 0.5
    assert found["non_live"].value == pytest.approx(0.5)
    assert found["non_live"].problems == 6 * 4 + 1
    one = found["simple_java"].standard_error
    five = found["multiple"].standard_error
    assert one is not None
    assert five is not None
    variance = 3 * (one / 12) ** 2 + 2 * (one / 4) ** 2 + (five / 4) ** 2
    assert found["non_live"].standard_error == pytest.approx(variance**0.5)
    assert estimates([answer("multiple_1", None)]) == []
