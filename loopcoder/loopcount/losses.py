"""Held-out loss by loop count, in bits per byte, paired over documents."""

import math
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from loopcoder.errors import RecordError
from loopcoder.loopcount.intervals import Array, Resamples
from loopcoder.loopcount.runs import Run
from loopcoder.loopcount.sweep import Sweep
from loopcoder.records.rows import SampleRow

LOSS = "held-out loss"
_Samples = dict[tuple[str, int], SampleRow]


def trained_sweep(runs: Sequence[Run], resamples: int) -> Sweep | None:
    """Models trained at several loop counts, each at its own; None if there are no two counts.

    Models of one loop count are taken for the same recipe with several seeds.
    """
    own = [run for run in _longest(runs) if _trained(run) <= run.loops]
    if len({_trained(run) for run in own}) < 2:
        return None
    documents = _Documents(own)
    totals = {
        loops: np.stack([documents.bits(run, loops) for run in own if _trained(run) == loops])
        for loops in sorted({_trained(run) for run in own})
    }
    return documents.sweep(LOSS, own, totals, resamples, paired_models=False)


def exit_sweep(runs: Sequence[Run], resamples: int) -> Sweep | None:
    """Checkpoints of one trained loop count, stopped after each loop; None for a single loop."""
    runs = _longest(runs)
    loops = min((run.loops for run in runs), default=0)
    if loops < 2:
        return None
    documents = _Documents(runs)
    totals = {r: np.stack([documents.bits(run, r) for run in runs]) for r in range(1, loops + 1)}
    return documents.sweep(LOSS, runs, totals, resamples, paired_models=True)


def samples_sweep(
    groups: Sequence[Sequence[tuple[Run, int]]], draw: Callable[[int], Resamples]
) -> Sweep:
    """Models of several kinds, each after so many loops; the first kind is number 0, gains are raw.

    Raises `RecordError` where they share no sample.
    """
    runs = [run for group in groups for run, _ in group]
    documents = _Documents(runs)
    return Sweep(
        name=LOSS,
        unit="bits per byte",
        of="documents",
        source=", ".join(run.name for run in runs),
        basis="measured",
        better=1,
        totals={i: np.stack([documents.bits(*pair) for pair in g]) for i, g in enumerate(groups)},
        weights=documents.bytes,
        resamples=draw(len(documents.bytes)),
    )


def unshared_samples(runs: Sequence[Run]) -> int:
    """How many samples are left out because not every run has them (one was interrupted)."""
    keys = [_samples(run).keys() for run in runs if run.loops]
    return len(set().union(*keys)) - len(set.intersection(*map(set, keys))) if keys else 0


def _longest(runs: Iterable[Run]) -> list[Run]:
    """One run a model: that with the most loops, which holds what fewer loops give."""
    found: dict[str, Run] = {}
    for run in runs:
        if run.model is not None and run.loops > 0:
            before = found.get(run.model.hash)
            if before is None or before.loops < run.loops:
                found[run.model.hash] = run
    return list(found.values())


def _trained(run: Run) -> int:
    assert run.model is not None
    return run.model.trained_loops


def _samples(run: Run) -> _Samples:
    most = run.loops
    return {(row.document, row.start): row for row in run.of(SampleRow) if row.loops == most}


class _Documents:
    """The samples that all runs have, summed by document."""

    def __init__(self, runs: Sequence[Run]) -> None:
        self._rows = {run.name: _samples(run) for run in runs}
        shared = set.intersection(*(set(rows) for rows in self._rows.values()))
        if not shared:
            raise RecordError(
                f"{' and '.join(self._rows)} share no sample; probe with the same --data and --seed"
            )
        self._shared = sorted(shared)
        first = self._rows[runs[0].name]
        for run in runs[1:]:
            rows = self._rows[run.name]
            for key in self._shared:
                if rows[key].bytes != first[key].bytes:
                    raise RecordError(
                        f"{run.name}: {key[0]}, token {key[1]}, stands for {rows[key].bytes} "
                        f"bytes, in {runs[0].name} for {first[key].bytes}; probe both again"
                    )
        names = sorted({document for document, _ in self._shared})
        place = {name: i for i, name in enumerate(names)}
        self._document = np.array([place[document] for document, _ in self._shared])
        self.bytes = self._sums([first[key].bytes for key in self._shared])
        if not self.bytes.all():
            raise RecordError(f"{runs[0].name}: a document of 0 bytes; probe again")

    def _sums(self, values: Sequence[float]) -> Array:
        return np.bincount(self._document, weights=values).astype(np.float64)

    def bits(self, run: Run, loops: int) -> Array:
        """Bits of each document after loop `loops`."""
        rows = self._rows[run.name]
        return self._sums([rows[key].nats[loops - 1] for key in self._shared]) / math.log(2)

    def sweep(
        self,
        name: str,
        runs: Sequence[Run],
        totals: dict[int, Array],
        resamples: int,
        *,
        paired_models: bool,
    ) -> Sweep:
        """`totals` as a sweep."""
        return Sweep(
            name=name,
            unit="bits per byte",
            of="documents",
            source=", ".join(run.name for run in runs),
            basis="measured",
            better=-1,
            totals=totals,
            weights=self.bytes,
            resamples=Resamples(len(self.bytes), resamples),
            paired_models=paired_models,
        )
