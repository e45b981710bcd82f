"""Which windows a seed draws, where they lie, and texts too short for any."""

from collections.abc import Sequence
from itertools import groupby, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loopcoder.errors import DataError
from loopcoder.probes import Draw, survey
from loopcoder.train.text import TextWindow


class Counting:
    """A document whose token t of the i-th is 1000 i + t, of two bytes each."""

    def __init__(self, index: int, tokens: int) -> None:
        self.name, self._index, self._tokens = f"text{index}", index, tokens

    def __len__(self) -> int:
        return self._tokens

    def window(self, first: int, length: int) -> TextWindow:
        assert 0 <= first <= first + length <= self._tokens
        ids = [1000 * self._index + t for t in range(first, first + length)]
        return TextWindow(token_ids=ids, bytes=2 * (length - 1))


class Texts:
    """Documents of given lengths; counts how often one was read."""

    def __init__(self, lengths: Sequence[int]) -> None:
        self.name, self.lengths, self.reads = "texts", lengths, 0

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, index: int) -> Counting:
        self.reads += 1
        return Counting(index, self.lengths[index])


def draw(lengths: Sequence[int], **options: int) -> Draw:
    return Draw(documents=Texts(lengths), **{"length": 5, "count": 100, **options})


@settings(deadline=None)
@given(
    lengths=st.lists(st.integers(0, 40), min_size=1, max_size=12),
    length=st.integers(2, 12),
    count=st.integers(1, 20),
    per_document=st.integers(1, 4),
    seed=st.integers(0, 1000),
)
def test_windows_lie_apart_within_their_documents(
    lengths: list[int], length: int, count: int, per_document: int, seed: int
) -> None:
    samples = list(draw(lengths, length=length, count=count, per_document=per_document, seed=seed))
    possible = sum(min(per_document, each // length) for each in lengths)
    assert len(samples) == min(count, possible)
    taken: dict[str, list[range]] = {}
    for sample in samples:
        index = int(sample.document.removeprefix("text"))
        start = 1000 * index + sample.start
        assert sample.token_ids == [*range(start, start + length)]
        assert 0 <= sample.start <= lengths[index] - length
        assert sample.bytes == 2 * (length - 1)
        taken.setdefault(sample.document, []).append(range(sample.start, sample.start + length))
    for windows in taken.values():
        assert len(windows) <= per_document
        assert all(a.stop <= b.start for a, b in pairwise(windows))
    in_a_row = [sample.document for sample in samples]
    assert len(list(groupby(in_a_row))) == len(taken)  # one document after another


def test_a_seed_is_a_draw() -> None:
    lengths = [50, 60, 4, 70, 80, 90]
    one = draw(lengths, count=4, seed=3)
    assert list(one) == list(one) == list(draw(lengths, count=4, seed=3))
    assert survey(one) == survey(draw(lengths, count=4, seed=3))
    starts = {tuple((s.document, s.start) for s in draw(lengths, count=4, seed=i)) for i in (0, 9)}
    assert len(starts) == 2
    assert survey(one).hash != survey(draw(lengths, count=4, seed=4)).hash


def test_every_place_of_a_document_can_be_drawn() -> None:
    """The first window to begin and the last to end, over 200 seeds of 5 tokens in 8."""
    starts = {next(iter(draw([8], seed=seed))).start for seed in range(200)}
    assert starts == {0, 1, 2, 3}


def test_short_documents_are_passed_over() -> None:
    found = survey(draw([4, 5, 0, 100], per_document=3))
    assert (found.samples, found.documents) == (4, 2)


def test_a_draw_reads_no_more_documents_than_it_needs() -> None:
    texts = Texts([20] * 50)
    list(Draw(documents=texts, length=5, count=3))
    assert texts.reads == 3


def test_texts_that_are_all_too_short_say_how_long_they_are() -> None:
    message = "texts: no text of 30 tokens among 3 documents, the longest has 17"
    with pytest.raises(DataError, match=message):
        survey(draw([3, 17, 0], length=30))


@pytest.mark.parametrize("option", [{"length": 1}, {"count": 0}, {"per_document": 0}])
def test_sizes_that_draw_nothing_are_refused(option: dict[str, int]) -> None:
    (name,) = option
    with pytest.raises(DataError, match=f"{name} of the samples is {option[name]}; it must be"):
        draw([10], **option)
