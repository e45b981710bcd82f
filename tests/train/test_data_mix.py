from hypothesis import given
from hypothesis import strategies as st

from loopcoder.train.data.files import Document
from loopcoder.train.data.mix import mix, plan
from loopcoder.train.data.recipe import Mix
from loopcoder.train.data.tally import Tally

sizes = st.integers(0, 10**9)


@given(
    text=sizes,
    python=sizes,
    other=sizes,
    parts=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    limit=st.integers(1, 10**9),
    share=st.floats(0, 1),
)
def test_the_plan_keeps_every_promise(
    text: int, python: int, other: int, parts: tuple[int, int], limit: int, share: float
) -> None:
    settings = Mix(text=parts[0], code=parts[1], max_bytes=limit, max_other_code=share)
    budget = plan(text, python, other, settings)
    code = budget.python + budget.other_code
    assert budget.text <= text
    assert budget.python <= python + 1
    assert budget.other_code <= other
    assert budget.text + code <= limit
    assert budget.other_code <= share * code + 2
    assert abs(budget.text * parts[1] - code * parts[0]) <= 3 * sum(parts)


def test_the_plan_uses_all_there_is_when_it_fits() -> None:
    budget = plan(100, 450, 50, Mix(text=1, code=5, max_bytes=600, max_other_code=0.1))
    assert (budget.text, budget.python, budget.other_code) == (100, 450, 50)


def documents(kind: str, language: str, count: int) -> list[Document]:
    return [
        Document(
            project=f"p{number % 7}",
            path=f"{language}{number}",
            kind=kind,
            language=language,
            text="x" * 100,
        )
        for number in range(count)
    ]


def test_the_mix_meets_the_plan_and_says_what_it_left_out() -> None:
    pool = documents("text", "markdown", 50)
    pool += documents("code", "python", 100) + documents("code", "c", 100)
    tally = Tally()
    kept = mix(pool, Mix(text=1, code=4, max_bytes=10_000, max_other_code=0.25), 1, tally)
    counts = {name: sum(item.language == name for item in kept) for name in ("markdown", "c")}
    assert counts == {"markdown": 20, "c": 20}
    assert len(kept) == 100
    assert tally.total()["mix"]["files"] == 150
    assert len({item.project for item in kept}) == 7
    assert kept == sorted(kept, key=lambda item: (item.project, item.path))


def test_another_seed_keeps_other_documents() -> None:
    pool = documents("code", "python", 100)
    settings = Mix(text=0, code=1, max_bytes=5_000)
    first, again, other = (mix(pool, settings, seed, Tally()) for seed in (1, 1, 2))
    assert first == again != other
