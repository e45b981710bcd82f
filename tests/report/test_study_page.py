"""What a page shows of a study: its models, arms, tasks and trials, and one model a loop count."""

import re
from collections.abc import Sequence

import pytest

from loopcoder.records.rows import AnyRow
from tests.loopcount.study import answers, depth, training
from tests.report.pages import Page, named, study_page
from tests.report.rows import HOSTILE
from tests.report.study import hostile_files, study_files

Cells = list[list[str]]


def _table(read: Page, section: str, caption: str) -> Cells:
    """Head and rows of a table that stands open in a section."""
    (outer,) = read.find("section", id=section)
    for region in read.within(outer, "div"):
        if str(read.attributes(region).get("aria-label", "")).startswith(caption[:60]):
            return [
                [read.text(c) for c in (*read.within(row, "th"), *read.within(row, "td"))]
                for row in read.within(region, "tr")
            ]
    raise AssertionError(f"{section} has no table {caption}")


def _caption(read: Page, figure: str) -> str:
    (found,) = read.find("figure", id=f"figure-{figure}")
    return read.text(read.within(found, "figcaption")[0])


def _small(*files: Sequence[AnyRow]) -> Page:
    named_files = {f"{i}.jsonl": rows for i, rows in enumerate(files)}
    return Page(study_page(named_files, papers=False))


def test_every_model_stands_with_what_it_took() -> None:
    head, *rows = _table(Page(named("study")), "trained", "Models, by arm and loop count")
    places = [" ".join(row[:2]) for row in rows]
    assert places[:5] == ["plt 1", "plt 2", "plt 3", "deep 1", "elastic 3"]
    cells = dict(zip(head, rows[1], strict=True))
    assert cells["seeds"] == "0, 1"
    assert cells["bits per byte, mean"] == "1.371"
    assert cells["of each seed"] == "1.369, 1.373"
    assert cells["parameters"] == "1,000,000"
    assert cells["training FLOPs of one"] == "2 PFLOP"
    assert cells["time of one"] == "25 min"
    elastic = dict(zip(head, rows[4], strict=True))
    assert elastic["before training"] == "1.520"
    assert elastic["at several counts"] == "1: 1.422, 2: 1.381, 3: 1.376"
    settings = _table(Page(named("study")), "trained", "Settings that they were trained with")
    assert settings[0] == ["arm", "loops", "learning_rate", "schedule", "widths", "tied"]
    assert settings[1] == ["plt", "1", "0.003", "cosine", "[64, 128]", "yes"]


def test_the_best_loop_count_is_told() -> None:
    said = _caption(Page(named("study")), "trained-0")
    assert "3 loops have the fewest bits per byte, 1.366; 1 loop 1.412 and 2 loops 1.371" in said
    assert "lowest seed" in said


def test_arms_stand_beside_the_main_arm() -> None:
    read = Page(named("study, no probes"))
    caption = "Arms below the main arm that they are compared with"
    head, *rows = _table(read, "ablation", caption)
    assert [row[:2] for row in rows[:3]] == [["plt (main)", "1"], ["deep", "1"], ["elastic", "1"]]
    at_two = {row[0]: dict(zip(head, row, strict=True)) for row in rows[3:9]}
    assert list(at_two) == ["plt (main)", "elastic", "no-gate", "own-kv", "serial", "deep"]
    assert (at_two["deep"]["loops"], at_two["serial"]["loops"]) == ("1", "2")
    assert at_two["serial"]["Bits per byte"] == "1.365"
    assert at_two["elastic"]["training FLOPs, times the main arm's"] == "1.05"
    assert rows[4][4] == "+0.0100 (\u22120.0340 to 0.0540)"
    said = _caption(read, "ablation-0")
    assert "Bits per byte: serial at 2 loops does best (\u22120.00600 bits per byte; 95 %:" in said
    assert "deep at 1 loop beside 2 worst (+0.0380" in said
    assert "R = 1 to 2: of 1 loop, beside main models of 2 loops" in said
    (figure,) = read.find("figure", id="figure-ablation-0")
    assert "seeds" in read.text(figure)
    assert "1200 questions" in read.text(figure)


def test_the_papers_ablation_stands_where_its_values_are() -> None:
    rows = _table(Page(named("study")), "ablation", "Published: Parallel Loop Transformer")
    assert rows[1:] == [
        ["vanilla", "34.7", "4.80", "280"],
        ["two loops in series", "39.7", "9.40", "560"],
        ["two loops + CLP", "39.6", "5.90", "560"],
        ["two loops + CLP + KV sharing", "36.2", "4.80", "280"],
        ["PLT-2 (+ G-SWA)", "39.7", "4.90", "284"],
        ["PLT-3", "40.8", "\u2013", "\u2013"],
    ]
    other = training("serial", 2, 0, 1.3, main=False)
    read = _small([training("plt", 2, 0, 1.4)], [other])
    assert "Published" not in read.text(read.find("section", id="ablation")[0])


def test_depth_is_shown_by_hops_and_loops() -> None:
    right = {1: [0.8, 0.4, 0.4, 0.4, 0.1], 2: [1.0, 0.9, 0.8, 0.7, 0.05]}
    files = [
        [depth("plt", loops, 0, "chains", "direct", answers(own))] for loops, own in right.items()
    ]
    read = _small(*files)
    said = _caption(read, "depth-0-direct")
    assert "of as many hops as training had, 2 loops answered most right, 85 % (1 loop 50" in said
    assert "of more hops, 1 loop answered most right, 10 % (2 loops 5 %)" in said
    assert "Dashed: training had up to 4 hops" in said
    (figure,) = read.find("figure", id="figure-depth-0-direct")
    cells = [read.text(cell) for cell in read.within(figure, "td")]
    assert cells[:6] == ["chains", "1", "yes", "100", "80 (71.1 to 86.7)", "100 (96.3 to 100)"]
    assert cells[-4:-1] == ["no", "100", "10 (5.52 to 17.4)"]
    assert len(read.within(figure, "svg")) - len(read.find("svg", class_="mark")) <= 1
    assert not read.find("section", id="trained")  # no model of it told what it was trained on


def test_trials_say_which_was_chosen() -> None:
    head, *rows = _table(
        Page(named("study")), "tuning", "Trials, the best of each loop count first"
    )
    plt = [dict(zip(head, row, strict=True)) for row in rows if row[0] == "plt" and row[1] == "1"]
    assert [row["learning_rate"] for row in plt] == ["0.003", "0.001", "0.01"]
    assert [row["chosen"] for row in plt] == ["chosen", "\u2013", "\u2013"]
    assert [row["bits per byte"] for row in plt] == ["1.512", "1.532", "1.532"]


def test_sections_on_single_models_show_one_a_loop_count() -> None:
    read = Page(named("study"))
    for figure in ("step_size", "output_shift"):
        (found,) = read.find("figure", id=f"figure-{figure}")
        labels = {read.text(i) for i in read.within(found, "td") if "R\u00a0=" in read.text(i)}
        assert {label.split(" ")[0] for label in labels if "published" not in label} <= {
            "plt-R1-s0",
            "plt-R2-s0",
            "plt-R3-s0",
        }
    sources = read.text(read.find("section", id="sources")[0])
    assert "show the first: plt-R1-s0, plt-R2-s0 and plt-R3-s0" in sources
    assert "Models of other arms (deep, elastic, no-gate, own-kv and serial)" in sources
    loss = read.find("figure", id="figure-loss-0")[0]
    assert "2" in [read.text(cell) for cell in read.within(loss, "td")]  # models a loop count
    exits = read.find("figure", id="figure-exits")[0]
    assert "plt (R\u00a0=\u00a03, 2 seeds)" in read.text(exits)


def test_an_arm_alone_is_shown_and_not_advised_on() -> None:
    files = {name: rows for name, rows in study_files().items() if "no-gate-R2" in name}
    read = Page(study_page(files, papers=False))
    first = read.text(read.find("section", id="recommendation")[0])
    assert "every model here is of an arm (no-gate)" in first
    assert read.find("figure", id="figure-step_size")


def test_a_study_without_probes_has_a_page() -> None:
    read = Page(named("study, no probes"))
    assert read.text(read.find("title")[0]) == "How many loops? small"
    assert read.text(read.find("p", class_="big")[0]) == "Train and run with 3 loops"
    told = "samples of held-out text read by models trained at several loop counts"
    assert told in read.text(read.find("section", id="loss")[0])
    only = Page(study_page(study_files(probes=False), papers=False))
    found = [only.attributes(i)["id"] for i in only.find("section")]
    assert found == [
        "recommendation",
        "loss",
        "depth",
        "trained",
        "ablation",
        "tuning",
        "sources",
    ]
    assert "sections on single models are left out" in only.text(only.find("section")[-1])
    assert "0 runs" not in only.text(only.find("p", class_="what")[0])


def test_two_studies_are_told_apart() -> None:
    files = {
        f"{name}/{file}": rows
        for name in ("one", "two")
        for file, rows in study_files(probes=False, name=name).items()
    }
    read = Page(study_page(files, papers=False))
    first = read.text(read.find("section", id="recommendation")[0])
    assert "is of the study one" in first
    trained = read.text(read.find("section", id="trained")[0])
    assert "Models, by arm and loop count: one" in trained
    assert "Models, by arm and loop count: two" in trained
    ids = [found["id"] for _, found, _ in read.elements if "id" in found]
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize("text", [text for text in HOSTILE if text] + ["x" * 300])
def test_hostile_names_stay_text(text: str) -> None:
    html = study_page(hostile_files(text), papers=False)
    read = Page(html)
    for section in ("trained", "ablation", "depth", "tuning"):
        assert read.find("section", id=section), section
    assert len(read.find("script")) == 1
    assert not [key for _, found, _ in read.elements for key in found if key.startswith("on")]
    assert not re.search("[\x00\u202a-\u202e\u2066-\u2069\u200b\u2028]", html)


def test_a_page_without_a_study_has_none_of_its_sections() -> None:
    read = Page(named("r2"))
    for section in ("trained", "ablation", "depth", "tuning"):
        assert not read.find("section", id=section)
