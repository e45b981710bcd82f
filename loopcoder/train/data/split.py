"""Which projects are held out: whole ones, by the hash of seed and name."""

from collections.abc import Iterable, Mapping

from loopcoder.errors import DataError
from loopcoder.train.data.files import KINDS, Document
from loopcoder.train.data.rank import rank
from loopcoder.train.data.recipe import Heldout

Sizes = Mapping[str, Mapping[str, int]]


def project_sizes(documents: Iterable[Document]) -> dict[str, dict[str, int]]:
    """Project to kind to bytes."""
    sizes: dict[str, dict[str, int]] = {}
    for document in documents:
        kinds = sizes.setdefault(document.project, dict.fromkeys(KINDS, 0))
        kinds[document.kind] += document.size
    return sizes


def choose_heldout(sizes: Sizes, settings: Heldout, seed: int) -> frozenset[str]:
    """The held-out projects: about `fraction` of the bytes, `min_projects` or more if possible.

    Of each kind that two or more projects have, the held-out part gets some. Raises `DataError`
    if there are fewer than two projects.
    """
    if len(sizes) < 2:
        raise DataError(
            f"the recipe yields {len(sizes)} usable project; holding out whole projects needs "
            "at least 2: add packages or folders"
        )
    target = settings.fraction * sum(map(_total, sizes.values()))
    small = _small_enough(sizes, target, settings.min_projects)
    ranked = sorted(small, key=lambda name: rank(seed, name))
    chosen = _fill(ranked, sizes, target) or [min(sizes, key=lambda name: _size_key(sizes, name))]
    for kind in KINDS:
        chosen += _missing(kind, chosen, sizes, ranked)
    return frozenset(chosen)


def _total(kinds: Mapping[str, int]) -> int:
    return sum(kinds.values())


def _size_key(sizes: Sizes, name: str) -> tuple[int, str]:
    return _total(sizes[name]), name


def _small_enough(sizes: Sizes, target: float, min_projects: int) -> list[str]:
    """Projects of at most 1/`min_projects` of the target; of more, if none is that small."""
    for parts in range(min_projects, 0, -1):
        if small := [name for name in sizes if _total(sizes[name]) <= target / parts]:
            return small
    return []


def _fill(ranked: list[str], sizes: Sizes, target: float) -> list[str]:
    chosen: list[str] = []
    held = 0
    for name in ranked:
        if held >= target:
            break
        chosen.append(name)
        held += _total(sizes[name])
    return chosen


def _missing(kind: str, chosen: list[str], sizes: Sizes, ranked: list[str]) -> list[str]:
    """One more project if `kind` is not held out yet and training would still have some."""
    having = [name for name in sizes if sizes[name][kind]]
    if len(having) < 2 or any(name in having for name in chosen):
        return []
    by_size = sorted(having, key=lambda name: _size_key(sizes, name))
    return [next((name for name in ranked if name in having), by_size[0])]
