import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopcoder.errors import DataError
from loopcoder.train.data.recipe import Heldout
from loopcoder.train.data.split import choose_heldout

SIZES = {f"p{number}": {"code": 900 + number, "text": 100} for number in range(200)}
projects = st.dictionaries(
    st.text("abcdef", min_size=1, max_size=4),
    st.fixed_dictionaries({"code": st.integers(0, 9999), "text": st.integers(0, 9999)}),
    min_size=2,
    max_size=40,
)


def test_about_the_fraction_is_held_out_in_enough_projects() -> None:
    chosen = choose_heldout(SIZES, Heldout(fraction=0.1, min_projects=8), seed=0)
    assert 18 <= len(chosen) <= 22


def test_the_choice_hangs_on_the_seed_and_not_on_the_order() -> None:
    def choose(sizes: dict[str, dict[str, int]], seed: int) -> frozenset[str]:
        return choose_heldout(sizes, Heldout(), seed)

    assert choose(SIZES, 1) == choose(dict(reversed(SIZES.items())), 1) != choose(SIZES, 2)


def test_a_large_project_is_never_held_out_where_small_ones_do() -> None:
    sizes = SIZES | {"huge": {"code": 500_000, "text": 0}}
    for seed in range(30):
        assert "huge" not in choose_heldout(sizes, Heldout(), seed)


def test_a_rare_kind_is_held_out_too() -> None:
    sizes = {name: {"code": 1000, "text": 0} for name in SIZES}
    sizes |= {"docs1": {"code": 0, "text": 1000}, "docs2": {"code": 0, "text": 1000}}
    for seed in range(10):
        assert choose_heldout(sizes, Heldout(), seed) & {"docs1", "docs2"}


@given(sizes=projects, seed=st.integers(0, 99))
def test_something_is_held_out_and_something_is_left(
    sizes: dict[str, dict[str, int]], seed: int
) -> None:
    chosen = choose_heldout(sizes, Heldout(fraction=0.2, min_projects=2), seed)
    assert chosen
    assert chosen <= set(sizes)


def test_one_project_cannot_be_split() -> None:
    with pytest.raises(DataError, match="at least 2"):
        choose_heldout({"only": {"code": 1, "text": 1}}, Heldout(), 0)
