"""The whole measurement: what must be zero, what must be equal, what is refused."""

import gc
import tracemalloc
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from loopcoder.checkpoint.load import load_model
from loopcoder.checkpoint.locate import locate
from loopcoder.errors import GenerationError, RequestError
from loopcoder.model.plt import PLT
from loopcoder.probes import Conventions, ProbeOptions, Sample, Site, Taps, probe
from loopcoder.records.measures import MEASURES
from loopcoder.records.rows import MatrixRow, MeasureRow, NoteRow, Row, SampleRow
from tests.probes.models import sample, source, tiny, tiny_with_equal_loops

ZERO = 1e-12


def run(model: PLT, samples: Iterable[Sample], **options: Any) -> list[Row]:
    return list(probe(model, samples, source(model), **options))


def means(rows: Iterable[Row]) -> dict[tuple[str, int, int | None], Any]:
    return {
        (row.measure, row.loop, row.layer): np.asarray(row.mean)
        for row in rows
        if isinstance(row, MeasureRow)
    }


def notes(rows: Iterable[Row]) -> dict[str | None, str]:
    return {row.measure: row.text for row in rows if isinstance(row, NoteRow)}


def without_time(rows: Iterable[Row]) -> list[Any]:
    return [row.model_dump(exclude={"source": {"time"}}) for row in rows]


SAMPLES = [sample(name, seed) for seed, name in enumerate("aabcd")]


def check_equal_loops(rows: list[Row], loops: int) -> None:
    found = means(rows)
    for r in range(2, loops + 1):
        assert abs(found["output_shift", r, None]) < ZERO
        assert found["step_size", r, None] == 0
        assert found["update_angle", r, None] == 0
        for name in ("loss", "truth_rank", "output_entropy", "effective_rank"):
            assert found[name, r, None] == pytest.approx(found[name, 1, None], abs=ZERO)
    assert found["step_size", 1, None] > 0.1


def test_loops_that_compute_the_same_show_no_change() -> None:
    """x^r = E and gates of 1: nothing shifts, neither states, outputs nor attention."""
    rows = run(tiny_with_equal_loops(3), SAMPLES)
    check_equal_loops(rows, 3)
    found = means(rows)
    assert {found["fixed_point_gap", r, None].item() for r in (1, 2, 3)} == {0}
    for layer in (0, 1):
        for r in (2, 3):
            assert (found["gate", r, layer] == 1).all()
            assert np.abs(found["attention_shift", r, layer]).max() < ZERO
            for name in ("attention_entropy_mixed", "head_rank", "head_cosine"):
                np.testing.assert_allclose(found[name, r, layer], found[name, 1, layer], atol=ZERO)
    matrices = {(row.loop, row.layer): row.mean for row in rows if isinstance(row, MatrixRow)}
    assert matrices[1, 1] == matrices[2, 1] == matrices[3, 1]


def test_the_global_branch_alone_does_not_shift_where_queries_do_not() -> None:
    """With half-open gates the mixed map moves in loop 2; the global branch stays."""
    model = tiny_with_equal_loops(2)
    with torch.no_grad():
        for layer in model.model.layers:
            layer.self_attn.plt_gate.bias.fill_(0.0)
    branches = {}
    for branch in ("mixed", "global"):
        options = ProbeOptions(conventions=Conventions(attention_branch=branch))  # type: ignore[arg-type]
        branches[branch] = means(run(model, SAMPLES, options=options))["attention_shift", 2, 0]
    assert np.abs(branches["global"]).max() < ZERO
    assert branches["mixed"].min() > 1e-3


def test_a_loop_made_equal_by_a_tap_shows_no_change() -> None:
    """A probe of a model that someone else's taps hold."""
    kept: dict[int, Tensor] = {}

    def repeat(u_BTD: Tensor, site: Site) -> Tensor | None:
        if site.loop == 1:
            kept[0] = u_BTD
        return kept[0] if site.loop == 2 else None

    model = tiny(plt_num_loops=2)
    with Taps(model, keep=(), on={"u": repeat}):
        check_equal_loops(run(model, SAMPLES), 2)
    changed = means(run(model, SAMPLES))
    assert changed["output_shift", 2, None] > 1e-3
    assert changed["step_size", 2, None] > 1e-3


def losses(rows: Iterable[Row]) -> list[list[float]]:
    return [row.values["loss"] for row in rows if isinstance(row, SampleRow)]


@pytest.mark.parametrize("fields", [{}, {"plt_normalize_per_loop": False}])
def test_loss_of_a_loop_is_that_of_a_run_which_stops_there(fields: dict[str, Any]) -> None:
    """Bit for bit: later loops change nothing of earlier ones."""
    model = tiny(**fields)
    whole = losses(run(model, SAMPLES, loops=3))
    for loops in (1, 2, 3):
        shorter = losses(run(model, SAMPLES, loops=loops))
        assert shorter == [each[:loops] for each in whole]
    model = tiny(**fields)
    nats = [
        torch.nn.functional.cross_entropy(
            model(torch.tensor([s.token_ids]), num_loops=2).logits[0, :-1],
            torch.tensor(s.token_ids[1:]),
        ).item()
        for s in SAMPLES
    ]
    np.testing.assert_allclose([each[1] for each in whole], nats, rtol=0, atol=ZERO)


@pytest.fixture(scope="module")
def nano() -> PLT:
    return load_model(locate("loopcoder-nano"))


def test_the_bundled_models_losses_are_those_of_shorter_runs(nano: PLT) -> None:
    """In bf16, to 1e-5 nats: the same operations on the same numbers."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(8192, (2, 80), generator=generator).tolist()
    samples = [Sample(document=str(i), start=0, token_ids=s, bytes=1) for i, s in enumerate(ids)]
    options = ProbeOptions(attention=False)
    whole = losses(run(nano, samples, loops=3, options=options))
    for loops in (1, 2):
        shorter = losses(run(nano, samples, loops=loops, options=options))
        np.testing.assert_allclose(shorter, [each[:loops] for each in whole], rtol=0, atol=1e-5)


@pytest.mark.parametrize("batch", [2, 3, 9])
def test_samples_that_share_a_pass_are_measured_as_alone(batch: int) -> None:
    one, many = run(tiny(), SAMPLES), run(tiny(), SAMPLES, batch=batch)
    assert means(one).keys() == means(many).keys()
    for place, mean in means(one).items():
        np.testing.assert_allclose(means(many)[place], mean, rtol=1e-9, atol=1e-9)


def test_measuring_twice_gives_the_same_rows() -> None:
    model = tiny()
    assert without_time(run(model, SAMPLES)) == without_time(run(model, SAMPLES))


def test_what_is_not_asked_for_is_noted_and_changes_nothing_else() -> None:
    model = tiny(plt_num_loops=2)
    everything = means(run(model, SAMPLES))
    rows = run(model, SAMPLES, options=ProbeOptions(attention=False, fixed_point=False))
    left_out = {name for name in MEASURES if name.startswith(("attention_", "head_"))}
    left_out.add("fixed_point_gap")
    assert notes(rows) == dict.fromkeys(left_out, "not asked for")
    assert not any(isinstance(row, MatrixRow) for row in rows)
    found = means(rows)
    assert found.keys() == {place for place in everything if place[0] not in left_out}
    for place, mean in found.items():
        np.testing.assert_array_equal(mean, everything[place])


def test_loops_beyond_the_trained_ones_and_short_samples_are_noted() -> None:
    model = tiny(plt_num_loops=2, plt_window_size=(11, 0))
    texts = notes(run(model, SAMPLES, loops=3))[None], notes(run(model, SAMPLES, loops=1))
    assert "12 tokens lie within the window of 12 keys" in texts[0]
    assert None not in texts[1]
    rows = run(tiny(plt_num_loops=2), SAMPLES, loops=3)
    assert notes(rows)[None] == (
        "the model was trained with 2 loops; what the loops after do was not trained"
    )


def test_rows_come_with_their_samples_and_an_early_end_is_a_whole_measurement() -> None:
    asked = []

    def until_three() -> Iterator[Sample]:
        for each in SAMPLES[:3]:
            asked.append(each.document)
            yield each

    model = tiny()
    rows = probe(model, until_three(), source(model))
    assert isinstance(next(rows), SampleRow)
    assert asked == ["a"]  # no sample is read before the one ahead is measured
    rest = list(rows)
    assert without_time(rest) == without_time(run(model, SAMPLES[:3])[1:])


def other_length() -> list[Sample]:
    return [*SAMPLES[:1], sample("odd", 3, length=11)]


def unknown_token() -> list[Sample]:
    return [Sample(document="x", start=0, token_ids=[1, 2, 37], bytes=3)]


@pytest.mark.parametrize(
    ("samples", "options", "message"),
    [
        (other_length, {}, "sample from odd has 11 tokens, the first had 12"),
        (unknown_token, {}, "hold token 37, the model knows 37 tokens"),
        (list, {}, "there are no samples"),
        (lambda: [sample("x", 0, length=1)], {}, "samples of 1 tokens"),
        (
            lambda: SAMPLES,
            {"options": ProbeOptions(conventions=Conventions(first_token=11))},
            "samples of 12 tokens with first_token 11 leave nothing",
        ),
        (lambda: SAMPLES, {"loops": 0}, "loops is 0"),
    ],
)
@pytest.mark.parametrize("batch", [1, 4])
def test_samples_that_cannot_be_measured_are_refused(
    samples: Callable[[], list[Sample]], options: dict[str, Any], message: str, batch: int
) -> None:
    with pytest.raises(RequestError, match=message):
        run(tiny(), samples(), batch=batch, **options)


def test_a_model_without_gates_runs_no_second_loop() -> None:
    with pytest.raises(RequestError, match="1 loop only, as it has no gates"):
        run(tiny(plt_num_loops=1), SAMPLES, loops=2)


@pytest.mark.parametrize("name", ["lm_head.weight", "model.layers.0.mlp.up_proj.weight"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_model_that_gives_no_numbers_is_an_error(name: str, value: float) -> None:
    model = tiny()
    with torch.no_grad():
        model.get_parameter(name)[0] = value
    with pytest.raises(GenerationError, match="prediction for a, token 0, is not a number"):
        run(model, SAMPLES)


def growth(keep: bool) -> int:
    """Bytes that samples 11 to 40 add, whether or not the caller keeps their rows."""
    model = tiny(plt_num_loops=2)
    rows = probe(model, (sample(str(seed), seed) for seed in range(40)), source(model))
    kept: list[Row] = []
    sizes = {}
    for done in range(1, 41):
        row = next(rows)
        assert isinstance(row, SampleRow)
        if keep:
            kept.append(row)
        if done == 5:
            tracemalloc.start()
        if done in (10, 40):
            gc.collect()
            sizes[done], _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return sizes[40] - sizes[10]


def test_memory_does_not_grow_with_the_samples() -> None:
    """A third of what one kept row for each sample takes is the interpreter's own free lists."""
    assert growth(keep=False) < growth(keep=True) / 3
