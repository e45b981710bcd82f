"""Every number of `probe` against the slow twin in `brute`, which knows SPEC.md only."""

from dataclasses import asdict
from typing import Any

import numpy as np
import pytest

from loopcoder.model.plt import PLT
from loopcoder.probes import Conventions, ProbeOptions, probe
from loopcoder.records.measures import MEASURES
from loopcoder.records.rows import CostRow, MatrixRow, MeasureRow, NoteRow, Row, SampleRow
from tests.model.configs import random_weights
from tests.probes import brute
from tests.probes.models import sample, source, tiny, tokens

CLOSE = 1e-8  # float64; ranks and cosines go through roots of small differences
DOCUMENTS = ["a", "a", "b", "c", "c"]  # two samples of one document count as one

CASES: list[tuple[dict[str, Any], int | None]] = [
    ({"plt_num_loops": 1}, None),
    ({"plt_num_loops": 2}, 1),
    ({"plt_num_loops": 2, "plt_normalize_per_loop": False}, None),
    ({"plt_num_loops": 2, "plt_gate_use_hidden_states": False}, 3),
    ({"plt_num_loops": 3, "tie_word_embeddings": True}, None),
    (
        {
            "plt_num_loops": 3,
            "plt_normalize_per_loop": False,
            "plt_gate_use_hidden_states": False,
            "num_attention_heads": 3,
            "num_key_value_heads": 1,
        },
        None,
    ),
    ({"num_attention_heads": 1, "num_key_value_heads": 1, "plt_window_size": (0, 0)}, None),
    ({"plt_loop_offset": 0, "plt_share_kv": False, "plt_gated_window": False}, None),
    ({"plt_num_loops": 2, "plt_share_kv": False}, 3),
]
OTHER = Conventions(
    step_state="h",
    offset_state="u",
    rank_state="u",
    rank_rows="as_is",
    shift_direction="from_previous",
    attention_branch="global",
    first_token=3,
)


def rows_of(model: PLT, loops: int | None, conventions: Conventions, batch: int) -> list[Row]:
    samples = [sample(name, seed) for seed, name in enumerate(DOCUMENTS)]
    options = ProbeOptions(conventions=conventions)
    return list(probe(model, samples, source(model), loops=loops, options=options, batch=batch))


def twin_of(model: PLT, loops: int, conventions: Conventions) -> dict[Any, list[Any]]:
    """By measure, loop and layer, what each sample gives."""
    weights = random_weights(model.config, 0)
    found: dict[Any, list[Any]] = {}
    for seed, name in enumerate(DOCUMENTS):
        ids = list(sample(name, seed).token_ids)
        options = asdict(conventions)
        for place, value in brute.measure(weights, model.config, ids, loops, options).items():
            found.setdefault(place, []).append(value)
    return found


@pytest.mark.parametrize(("fields", "loops"), CASES, ids=str)
def test_the_twin_runs_the_same_model(fields: dict[str, Any], loops: int | None) -> None:
    """States to 1e-10: the comparison of measures below starts from the same model."""
    model = tiny(**fields)
    run = model.model.check_loops(loops)
    trace = brute.run(random_weights(model.config, 0), model.config, tokens()[0].tolist(), run)
    for r, state in enumerate(model.model(tokens(), num_loops=run), 1):
        np.testing.assert_allclose(trace.u[r], state.u[0].detach(), atol=1e-10)
        np.testing.assert_allclose(trace.h[r], state.h[0].detach(), atol=1e-10)


@pytest.mark.parametrize("conventions", [Conventions(), OTHER], ids=["table", "other"])
@pytest.mark.parametrize(("fields", "loops"), CASES, ids=str)
def test_every_row_is_the_twins(
    fields: dict[str, Any], loops: int | None, conventions: Conventions
) -> None:
    model = tiny(**fields)
    run = model.model.check_loops(loops)
    twin = twin_of(model, run, conventions)
    rows = rows_of(model, loops, conventions, batch=2)

    measured = [row for row in rows if isinstance(row, MeasureRow)]
    places = [(row.measure, row.loop, row.layer) for row in measured]
    assert len(set(places)) == len(places)
    assert set(places) == {place for place in twin if place[0] != "head_similarity"}
    for row in measured:
        values = twin[row.measure, row.loop, row.layer]
        mean, low, high = brute.over_documents(DOCUMENTS, values)
        for name, expected in (("mean", mean), ("low", low), ("high", high)):
            where = f"{name} of {row.measure}, loop {row.loop}, layer {row.layer}"
            np.testing.assert_allclose(
                getattr(row, name), expected, rtol=CLOSE, atol=CLOSE, err_msg=where
            )
        np.testing.assert_allclose(row.sd, np.std(values, axis=0, ddof=1), rtol=CLOSE, atol=CLOSE)
        assert (row.samples, row.documents, row.loops) == (5, 3, run)
        assert row.conventions["first_token"] == conventions.first_token

    matrices = [row for row in rows if isinstance(row, MatrixRow)]
    assert len(matrices) == run * model.config.num_hidden_layers
    for row in matrices:
        mean, _, _ = brute.over_documents(DOCUMENTS, twin["head_similarity", row.loop, row.layer])
        np.testing.assert_allclose(row.mean, mean, atol=0.5e-4 + CLOSE)  # written with 4 digits


@pytest.mark.parametrize(("fields", "loops"), CASES, ids=str)
def test_every_sample_is_the_twins(fields: dict[str, Any], loops: int | None) -> None:
    model = tiny(**fields)
    run = model.model.check_loops(loops)
    twin = twin_of(model, run, Conventions())
    rows = rows_of(model, loops, Conventions(), batch=1)
    samples = [row for row in rows if isinstance(row, SampleRow)]
    assert [row.document for row in samples] == DOCUMENTS
    assert [row.start for row in samples] == [0, 10, 20, 30, 40]
    names = {name for name, _, layer in twin if layer is None}
    for i, row in enumerate(samples):
        assert set(row.values) == names
        assert (row.tokens, row.bytes, row.loops) == (11, 24, run)
        losses = [twin["loss", r, None][i] for r in range(1, run + 1)]
        np.testing.assert_allclose(row.nats, 11 * np.array(losses), rtol=CLOSE)
        for name, values in row.values.items():
            first = MEASURES[name].first_loop
            expected = [twin[name, r, None][i] for r in range(first, run + 1)]
            np.testing.assert_allclose(values, expected, rtol=CLOSE, atol=CLOSE, err_msg=name)


@pytest.mark.parametrize(("fields", "loops"), CASES, ids=str)
def test_what_has_no_row_has_a_note(fields: dict[str, Any], loops: int | None) -> None:
    model = tiny(**fields)
    rows = rows_of(model, loops, Conventions(), batch=5)
    measured = {row.measure for row in rows if isinstance(row, MeasureRow)}
    noted = {row.measure for row in rows if isinstance(row, NoteRow) and row.measure}
    assert measured | noted == set(MEASURES)
    assert not measured & noted
    assert [row.loops for row in rows if isinstance(row, CostRow)] == [1, 2, 3, 4]
