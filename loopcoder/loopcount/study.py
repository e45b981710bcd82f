"""What a study's files hold: its models with all that was measured of each, and its trials."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from loopcoder.loopcount.runs import Evidence, Run
from loopcoder.records.rows import DepthRow, SampleRow, TrainingRow


@dataclass(frozen=True, kw_only=True)
class StudyModel:
    """One model: `loops` is what it was trained with; `main` that nothing else sets it apart."""

    arm: str
    loops: int
    seed: int
    main: bool
    training: TrainingRow | None
    depth: tuple[DepthRow, ...]
    probe: Run | None  # with samples of held-out text

    def bits_at(self, loops: int) -> float | None:
        """Its held-out bits per byte by the trainer's own measurement."""
        if self.training is None:
            return None
        own = self.training.bits_per_byte if loops == self.training.loops else None
        return self.training.by_loops.get(loops, own)

    @property
    def counts(self) -> tuple[int, ...]:
        """The loop counts that it was trained for: several of an elastic model."""
        several = self.training.by_loops if self.training else ()
        return tuple(sorted({self.loops, *several, *(row.loops for row in self.depth)}))


@dataclass(frozen=True, kw_only=True)
class Study:
    """The models of one study: the main arm's first, then by arm, loops and seed."""

    name: str
    models: tuple[StudyModel, ...]
    trials: tuple[TrainingRow, ...]

    @property
    def groups(self) -> list[tuple[StudyModel, ...]]:
        """Models of one arm and loop count, which differ by their seeds."""
        found: dict[tuple[str, int], list[StudyModel]] = {}
        for model in self.models:
            found.setdefault((model.arm, model.loops), []).append(model)
        return [tuple(models) for models in found.values()]

    @property
    def main_groups(self) -> list[tuple[StudyModel, ...]]:
        """Those of the main arm, fewest loops first."""
        return [group for group in self.groups if group[0].main]


_Key = tuple[str, str, int, int]  # study, arm, trained loops, seed


def studies(evidence: Evidence) -> list[Study]:
    """The studies whose rows are there, by name."""
    rows: dict[_Key, list[TrainingRow | DepthRow]] = defaultdict(list)
    trials: dict[str, list[TrainingRow]] = defaultdict(list)
    for row in _rows(evidence.runs):
        if isinstance(row, TrainingRow) and row.stage == "trial":
            trials[row.study].append(row)
        else:
            rows[_key(row)].append(row)
    probes = {run.model.hash: run for run in evidence.runs if run.model and run.of(SampleRow)}
    models: dict[str, list[StudyModel]] = defaultdict(list)
    for key, own in rows.items():
        models[key[0]].append(_model(key, own, probes))
    return [
        Study(
            name=name,
            models=tuple(sorted(models[name], key=_place)),
            trials=tuple(sorted(trials[name], key=lambda row: (row.arm, row.loops))),
        )
        for name in sorted({*models, *trials})
    ]


def _rows(runs: Iterable[Run]) -> Iterator[TrainingRow | DepthRow]:
    for run in runs:
        yield from (row for row in run.rows if isinstance(row, TrainingRow | DepthRow))


def _key(row: TrainingRow | DepthRow) -> _Key:
    model = row.source.model
    return row.study, row.arm, model.trained_loops if model else row.loops, row.seed


def _place(model: StudyModel) -> tuple[bool, str, int, int]:
    return not model.main, model.arm, model.loops, model.seed


def _model(key: _Key, rows: Sequence[TrainingRow | DepthRow], probes: dict[str, Run]) -> StudyModel:
    _, arm, loops, seed = key
    identities = [row.source.model for row in rows if row.source.model]
    return StudyModel(
        arm=arm,
        loops=loops,
        seed=seed,
        main=bool(identities) and all(identity.arm is None for identity in identities),
        training=next((row for row in rows if isinstance(row, TrainingRow)), None),
        depth=tuple(row for row in rows if isinstance(row, DepthRow)),
        probe=next((probes[each.hash] for each in identities if each.hash in probes), None),
    )
