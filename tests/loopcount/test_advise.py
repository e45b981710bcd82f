"""The decision table of docs/advice.md, row by row, and what the advice says beside it."""

import numpy as np
import pytest

from loopcoder.errors import RequestError
from loopcoder.loopcount import Evidence, Limits, advise
from loopcoder.loopcount.runs import Bench
from tests.loopcount.rows import (
    bench,
    bits_of,
    costs,
    evidence,
    measures,
    run_of,
    samples,
    score,
    source,
    text_sizes,
    trained_at,
)


def _bench(latency: dict[int, float], name: str = "decode.json") -> Bench:
    found = bench(latency)
    return Bench(**{**found, "rows": tuple(found["rows"])}, name=name)


def test_more_loops_that_gain_for_certain_win() -> None:
    advice = advise(evidence(trained_at(1, 1.80), trained_at(2, 1.76), trained_at(3, 1.79)))
    assert advice.question == "train and run"
    assert (advice.recommended_loops, advice.confidence) == (2, "likely")  # one seed
    assert advice.compared == (1, 2, 3)
    assert advice.lowest_share > 0.99
    assert {(f.fewer, f.more) for f in advice.reasons} == {(1, 2), (2, 3)}
    assert any("luck of its seed" in line for line in advice.caveats)


def test_seeds_and_documents_make_it_sure() -> None:
    runs = [
        trained_at(r, level, name=f"{r}-{seed}", seed=10 * r + seed)
        for r, level in ((1, 1.80), (2, 1.70))
        for seed in (1, 2, 3)
    ]
    advice = advise(evidence(*runs))
    assert (advice.recommended_loops, advice.confidence) == (2, "sure")
    assert advice.tables[0].levels[0].models == 3
    assert not any("luck" in line for line in advice.caveats)


def test_seeds_that_differ_as_much_as_loops_decide_nothing() -> None:
    levels = {1: (1.80, 1.74), 2: (1.78, 1.72)}
    runs = [
        trained_at(r, level, name=f"{r}-{i}", seed=10 * r + i, noise=0.002)
        for r, both in levels.items()
        for i, level in enumerate(both)
    ]
    advice = advise(evidence(*runs))
    assert (advice.recommended_loops, advice.confidence) == (None, "cannot tell")
    assert any("more seeds" in line for line in advice.would_change)


def test_seeds_of_one_count_lend_their_spread_to_the_other() -> None:
    runs = [trained_at(1, 1.80), *(trained_at(2, 1.7, name=f"b{i}", seed=i) for i in (3, 4))]
    advice = advise(evidence(*runs))
    assert any("the spread between seeds is taken from the others" in c for c in advice.caveats)


def test_fewer_loops_win_where_more_gain_next_to_nothing() -> None:
    advice = advise(evidence(trained_at(1, 1.80, noise=0.002), trained_at(2, 1.80, noise=0.002)))
    assert advice.recommended_loops == 1
    assert advice.confidence == "likely"
    assert advice.tables[0].gains[0].verdict != "for"


def test_a_wide_interval_around_zero_cannot_tell() -> None:
    runs = (trained_at(1, 1.80, noise=0.2), trained_at(2, 1.79, noise=0.2))
    advice = advise(evidence(*runs))
    assert (advice.recommended_loops, advice.confidence) == (None, "cannot tell")
    assert "it may be nothing" in advice.basis
    assert advice.reasons == ()
    assert any("documents instead of 40 would decide" in line for line in advice.would_change)


def test_the_number_of_documents_it_names_is_about_right() -> None:
    """Four times the documents halve the interval."""
    runs = (trained_at(1, 1.80, noise=0.1), trained_at(2, 1.77, noise=0.1))
    advice = advise(evidence(*runs))
    (line,) = [line for line in advice.would_change if "would decide" in line]
    needed = int(line.split("about ")[1].split()[0])
    gain = advice.tables[0].gains[0]
    half = gain.value - gain.low99 if gain.value > 0 else gain.high99 - gain.value
    assert needed == pytest.approx(40 * (half / gain.value) ** 2, abs=1)


def test_a_certain_step_stands_where_the_next_is_open() -> None:
    """2 beats 1 for certain; whether 3 beats 2 is open: 2, weakly."""
    runs = (trained_at(1, 2.5), trained_at(2, 1.80, noise=0.1), trained_at(3, 1.79, noise=0.1))
    advice = advise(evidence(*runs))
    assert (advice.recommended_loops, advice.confidence) == (2, "weak")
    assert any("3 loops against 2" in line for line in advice.would_change)


def test_fewer_than_eight_documents_cannot_tell() -> None:
    runs = (trained_at(1, 2.5, documents=7), trained_at(2, 1.8, documents=7))
    advice = advise(evidence(*runs))
    assert advice.recommended_loops is None
    assert "7 documents: too few" in advice.basis
    assert any("at least 8 documents instead of 7" in line for line in advice.would_change)


def test_few_documents_are_never_sure() -> None:
    sizes = text_sizes(12)
    rows = samples(source(), bits_of(sizes, [2.5, 1.8], 0.01, 0), sizes)
    advice = advise(evidence(run_of("a", rows)))
    assert (advice.recommended_loops, advice.confidence) == (2, "likely")
    assert any("12 documents are few" in line for line in advice.caveats)


def test_worse_with_more_loops() -> None:
    advice = advise(evidence(trained_at(1, 1.70), trained_at(2, 1.80)))
    assert advice.recommended_loops == 1
    assert advice.reasons[0].verdict == "against"
    assert "worse held-out loss" in advice.reasons[0].sentence


def test_the_least_gain_that_is_worth_a_loop() -> None:
    runs = evidence(trained_at(1, 1.80), trained_at(2, 1.76))
    assert advise(runs, Limits(min_gain=0.01)).recommended_loops == 2
    assert advise(runs, Limits(min_gain=0.2)).recommended_loops == 1
    near = advise(runs, Limits(min_gain=0.041))
    assert near.recommended_loops in (None, 2)  # 0.04 and its noise: not certainly less


def test_one_checkpoint_answers_another_question() -> None:
    sizes = text_sizes(40)
    rows = samples(source(), bits_of(sizes, [2.5, 1.8, 1.9], 0.01, 0), sizes)
    advice = advise(evidence(run_of("a", rows)))
    assert advice.question == "run this checkpoint"
    assert (advice.recommended_loops, advice.confidence) == (2, "sure")
    assert any("not how many to train" in line for line in advice.caveats)
    assert any("loops after 2 were run" in line for line in advice.caveats)
    assert not any("no model with" in line for line in advice.would_change)


def test_several_checkpoints_of_one_loop_count_are_averaged() -> None:
    runs = [trained_at(2, level, name=f"c{i}", seed=i) for i, level in ((1, 1.7), (2, 1.9))]
    advice = advise(evidence(*runs))
    assert advice.question == "run this checkpoint"
    assert advice.recommended_loops == 2
    assert advice.tables[0].levels[1].value == pytest.approx(1.8, abs=0.01)
    assert any("the mean of 2 checkpoints" in line for line in advice.caveats)


def test_one_model_run_at_two_counts_is_one_model() -> None:
    sizes = text_sizes(40)
    bits = bits_of(sizes, [2.5, 1.8, 1.9], 0.01, 0)
    two, three = (samples(source(), bits[:, :r], sizes) for r in (2, 3))
    advice = advise(evidence(run_of("two", two), run_of("three", three)))
    assert [level.loops for level in advice.tables[0].levels] == [1, 2, 3]
    assert advice.tables[0].levels[0].models == 1
    assert advice.recommended_loops == 2


def test_a_models_own_curve_does_not_say_how_many_to_train() -> None:
    """In a model of two loops loop 1 is bad; the model trained at one loop is as good."""
    advice = advise(evidence(trained_at(1, 1.80, noise=0.002), trained_at(2, 1.80, noise=0.002)))
    assert advice.recommended_loops == 1
    shown = [table for table in advice.tables if not table.decides]
    assert [level.loops for level in shown[0].levels] == [1, 2]
    assert shown[0].gains[0].value == pytest.approx(1.0, abs=0.05)


def test_one_model_of_one_loop_cannot_tell() -> None:
    advice = advise(evidence(trained_at(1, 1.8)))
    assert advice.recommended_loops is None
    assert "nothing that compares two loop counts" in advice.basis


def test_a_count_that_is_missing_is_named() -> None:
    advice = advise(evidence(trained_at(1, 1.8), trained_at(3, 1.7)))
    assert "no model with 2 loops was measured" in advice.would_change
    assert any("no model with 4 loops was measured: 3" in line for line in advice.would_change)


def _scored(loops: int, values: list[float], *, level: float | None = None):
    name = f"s{loops}"
    rows = [score(source(name, loops), f"task {i}", v, loops) for i, v in enumerate(values)]
    if level is None:
        return run_of(name, rows)
    return trained_at(loops, level, name=name, extra=rows)


UP = [40.0, 50.0, 30.0, 20.0, 60.0, 70.0, 10.0, 35.0, 45.0, 55.0]


def test_scores_decide_as_losses_do() -> None:
    gains = np.linspace(2, 5, 10)
    advice = advise(evidence(_scored(1, UP), _scored(2, list(np.array(UP) + gains))))
    assert (advice.recommended_loops, advice.confidence) == (2, "likely")
    assert advice.tables[0].of == "tasks"
    assert advice.tables[0].gains[0].value == pytest.approx(3.5)


def test_losses_and_scores_that_disagree_cannot_tell() -> None:
    worse = list(np.array(UP) - np.linspace(2, 5, 10))
    advice = advise(evidence(_scored(1, UP, level=1.8), _scored(2, worse, level=1.7)))
    assert advice.recommended_loops is None
    assert advice.basis.startswith("they disagree: held-out loss")


def test_what_cannot_tell_does_not_vote() -> None:
    noisy = list(np.array(UP) + np.tile([9.0, -9.0], 5))
    advice = advise(evidence(_scored(1, UP, level=1.8), _scored(2, noisy, level=1.7)))
    assert advice.recommended_loops == 2


def test_limits_leave_counts_out_and_say_so() -> None:
    runs = (trained_at(1, 1.80, extra=costs(source("r1", 1))), trained_at(2, 1.70))
    with_bench = Evidence(runs=evidence(*runs).runs, benches=(_bench({1: 1.0, 2: 1.2}),))
    assert advise(with_bench, Limits(max_latency=1.25)).recommended_loops == 2
    strict = advise(with_bench, Limits(max_latency=1.1))
    assert strict.recommended_loops == 1
    assert any("decode latency x 1.2 (measured)" in line for line in strict.would_change)
    assert strict.against[0].more == 2
    assert advise(with_bench, Limits(max_flops=1.5)).recommended_loops == 1


def test_the_dearest_measurement_counts() -> None:
    runs = evidence(trained_at(1, 1.80), trained_at(2, 1.70)).runs
    benches = (_bench({1: 1.0, 2: 1.05}, "a.json"), _bench({1: 1.0, 2: 1.4}, "b.json"))
    advice = advise(Evidence(runs=runs, benches=benches), Limits(max_latency=1.2))
    assert advice.recommended_loops == 1


def test_a_limit_on_what_nobody_measured() -> None:
    with pytest.raises(RequestError, match=r"--max-latency is 1\.1, and nothing given says"):
        advise(evidence(trained_at(1, 1.8), trained_at(2, 1.7)), Limits(max_latency=1.1))


def test_a_count_without_a_known_cost_is_left_out() -> None:
    runs = evidence(trained_at(1, 1.8), trained_at(2, 1.7), trained_at(3, 1.6)).runs
    found = Evidence(runs=runs, benches=(_bench({1: 1.0, 2: 1.05}),))
    advice = advise(found, Limits(max_latency=1.1))
    assert advice.recommended_loops == 2
    assert any("3 loops left out: no decode latency" in line for line in advice.would_change)


@pytest.mark.parametrize(
    "limits", [{"max_latency": 0.9}, {"max_flops": float("nan")}, {"min_gain": -1.0}]
)
def test_limits_that_nothing_meets(limits: dict[str, float]) -> None:
    option = "--" + next(iter(limits)).replace("_", "-")
    with pytest.raises(RequestError, match=option):
        Limits(**limits)


def test_published_values_beside_measured_ones_do_not_decide() -> None:
    from loopcoder.loopcount import published_run

    runs = evidence(trained_at(1, 1.70), trained_at(2, 1.80), published_run())
    advice = advise(runs)
    assert advice.recommended_loops == 1
    assert any(cost.basis == "published" for cost in advice.costs)
    assert any("do not decide" in line for line in advice.caveats)


def test_diagnostics_alone_are_weak() -> None:
    means = {"output_shift": {2: 0.5, 3: 0.1}, "effective_rank": {1: 90.0, 2: 95.0, 3: 97.0}}
    advice = advise(evidence(run_of("a", measures(source(trained=3), means, 3))))
    assert advice.question == "train and run"
    assert (advice.recommended_loops, advice.confidence) == (2, "weak")
    assert any("has collapsed at loop 3" in f.sentence for f in advice.reasons)
    assert any("held-out loss or scores" in line for line in advice.would_change)


@pytest.mark.parametrize(
    ("means", "loops"),
    [
        ({"effective_rank": {1: 95.0, 2: 90.0}, "output_shift": {2: 0.5}}, 1),  # rank falls
        ({"output_shift": {2: 0.001}}, 1),  # nothing moves
        ({"output_shift": {2: 0.5, 3: 0.4}}, 3),
        (
            {
                "output_shift": {2: 0.5, 3: 0.4},
                "update_angle": {2: -0.7, 3: -0.3},
                "offset_cost": {2: 50.0, 3: 49.0},
            },
            2,  # turns back at the same toll
        ),
        (
            {
                "output_shift": {2: 0.5, 3: 0.4},
                "update_angle": {3: -0.3},
                "offset_cost": {2: 50.0, 3: 20.0},
            },
            3,  # turns back, but the toll has fallen
        ),
        ({"truth_rank": {1: 9.0, 2: 7.0, 3: 8.0}}, 2),
        ({"output_entropy": {1: 5.0, 2: 4.0}}, None),  # sharper alone is no gain
    ],
)
def test_how_diagnostics_are_read(means: dict, loops: int | None) -> None:
    advice = advise(evidence(run_of("a", measures(source(trained=4), means, 4))))
    assert advice.diagnosed == loops
    assert advice.recommended_loops == loops


def test_diagnostics_are_paired_over_documents() -> None:
    """The rank rises by 1 in each of 20 documents that differ by far more."""
    base = np.random.default_rng(0).normal(100, 30, 20)
    sizes = text_sizes(20)
    rows = samples(source(), bits_of(sizes, [2.0, 1.9], 0.01, 0), sizes)
    risen = base + 1 + np.random.default_rng(1).normal(0, 0.1, 20)
    rows = [
        row.model_copy(update={"values": {"effective_rank": [float(a), float(b)]}})
        for row, a, b in zip(rows, base, risen, strict=True)
    ]
    means = {"effective_rank": {1: base.mean(), 2: risen.mean()}}
    advice = advise(evidence(run_of("a", [*rows, *measures(source(), means, 2)])))
    (rank,) = [f for f in advice.findings if f.about == "effective rank"]
    assert rank.verdict == "for"
    assert 0.8 < rank.low99 < 1 < rank.high99 < 1.2
    assert advice.per_loop[1].rank_gain == pytest.approx(risen.mean() - base.mean())


def test_json_has_plain_values() -> None:
    import json

    advice = advise(evidence(trained_at(1, 1.8), trained_at(2, 1.7)))
    again = json.loads(json.dumps(advice.to_dict(), allow_nan=False))
    assert again["recommended_loops"] == 2
    assert again["tables"][0]["levels"][1]["loops"] == 2
