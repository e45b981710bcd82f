"""What a page holds, for models of one to four loops, for several models, and for hostile text."""

import json
import re

import pytest

from loopcoder.loopcount import Bench, Evidence, as_run
from loopcoder.records.measures import MEASURES
from loopcoder.records.rows import NoteRow
from loopcoder.report.numbers import small
from loopcoder.report.page import render
from tests.report.pages import PAGES, Page, named, page
from tests.report.rows import HOSTILE, probe_rows, source

MEGABYTES = 2_000_000


@pytest.fixture(params=PAGES)
def html(request: pytest.FixtureRequest) -> str:
    return named(request.param)


SECTIONS = [
    "recommendation",
    "loss",
    "scissors",
    "steps",
    "rank",
    "attention",
    "similarity",
    "gates",
    "lens",
    "peak",
    "tokens",
    "sources",
]


STUDY_SECTIONS = [*SECTIONS[:2], "depth", "trained", "ablation", *SECTIONS[2:-1], "tuning"]


def test_every_section_stands_in_its_order(html: str) -> None:
    read = Page(html)
    found = [read.attributes(i)["id"] for i in read.find("section")]
    study = "tuning" in found
    assert found == ([*STUDY_SECTIONS, SECTIONS[-1]] if study else SECTIONS)
    assert study == ("models of a study" in read.text(read.find("p", class_="what")[0]))
    linked = [read.attributes(i)["href"] for i in read.within(read.find("nav")[0], "a")]
    assert linked == [f"#{name}" for name in found]


def test_a_section_shows_something_or_says_what_is_missing(html: str) -> None:
    read = Page(html)
    for section in read.find("section"):
        shown = read.within(section, "svg") + read.within(section, "table")
        lines = [i for i in read.find("p", class_="missing") if section in read.inside[i]]
        assert shown or lines, read.attributes(section)["id"]


def test_every_figure_has_a_sentence_with_a_number_a_table_and_a_name(html: str) -> None:
    read = Page(html)
    for figure in read.find("figure"):
        name = read.attributes(figure)["id"]
        (caption,) = read.within(figure, "figcaption")
        assert re.search(r"\d", read.text(caption)), name
        tables = read.within(figure, "table")
        assert tables, name
        assert all(len(read.within(table, "tr")) > 1 for table in tables), name
        for svg in read.within(figure, "svg"):
            shown = read.attributes(svg)
            assert shown.get("aria-hidden") or (shown["role"], bool(shown["aria-label"])) == (
                "img",
                True,
            )


def test_it_is_one_valid_file_that_fetches_nothing(html: str) -> None:
    read = Page(html)
    ids = [found["id"] for _, found, _ in read.elements if "id" in found]
    assert len(ids) == len(set(ids))
    for _, attributes, _ in read.elements:
        for key in ("src", "href", "xlink:href", "srcset", "data", "action", "poster"):
            target = attributes.get(key) or "#"
            assert target.startswith(("#", "data:")), (key, target)
    for style in [read.text(i) for i in read.find("style")]:
        assert "@import" not in style
        assert not re.search(r"url\((?!['\"]?(#|data:))", style)
    used = set(re.findall(r"url\(#([^)]+)\)", html)) | set(re.findall(r'href="#([^"]+)"', html))
    assert used <= set(ids)
    assert len(html.encode()) < MEGABYTES


def test_loops_are_whole_numbers_on_every_axis(html: str) -> None:
    read = Page(html)
    for figure in ("step_size", "effective_rank", "output_shift", "peak"):
        for found in read.find("figure", id=f"figure-{figure}"):
            texts = [read.text(i) for i in read.within(found, "text")]
            axis = texts[: texts.index("loop")]
            assert axis, figure
            assert all(re.fullmatch(r"[1-4]", text) for text in axis), axis


def test_every_colour_follows_the_theme(html: str) -> None:
    """Stand-ins of `svg` have become variables, and the variables exist."""
    assert not re.search(r"#0[1-4]0[1-4]0[1-4]|#0a000\d", html)
    used = set(re.findall(r"var\((--[\w-]+)\)", html))
    assert used <= set(re.findall(r"(--[\w-]+):", html)) | {"--p", "--bar"}


def test_one_loop_says_what_cannot_be_measured() -> None:
    read = Page(named("r1"))
    lines = [read.text(i) for i in read.find("p", class_="missing")]
    for measure in ("update_angle", "output_shift", "gate", "attention_shift", "peak_share"):
        title = small(MEASURES[measure].title)
        found = [line for line in lines if title in line]
        assert found, title
        assert "loopcoder probe" in found[0]
        assert "loops or more" in found[0]
    assert read.find("figure", id="figure-step_size")


def test_notes_are_told_where_the_measure_is_missing() -> None:
    rows = probe_rows(2, attention=False)
    read = Page(page(rows))
    attention = read.find("section", id="attention")[0]
    assert "--no-attention was given" in read.text(attention)


def test_sentences_come_from_the_numbers() -> None:
    read = Page(named("r4"))
    (caption,) = read.within(read.find("figure", id="figure-output_shift")[0], "figcaption")
    said = read.text(caption)
    assert "Loop 2 moves the prediction by 0.410 nats on average" in said
    assert "loop 3 by 0.0600 and loop 4 by 0.0900" in said
    (caption,) = read.within(read.find("figure", id="figure-effective_rank")[0], "figcaption")
    assert "loop 2 changes that most (+7.50)" in read.text(caption)
    (caption,) = read.within(read.find("figure", id="figure-update_angle")[0], "figcaption")
    assert "Loops 2 and 3 turn back on the loop before each" in read.text(caption)
    assert "loop 4 neither follows nor opposes" in read.text(caption)
    (caption,) = read.within(read.find("figure", id="figure-scissors-0")[0], "figcaption")
    assert "Loop 3 changes the prediction by 15 % of what loop 2 does" in read.text(caption)


def test_tables_hold_the_means_and_their_intervals() -> None:
    read = Page(named("r2"))
    table = read.within(read.find("figure", id="figure-step_size")[0], "table")[0]
    (cells,) = [
        [read.text(i) for i in read.within(row, "td")]
        for row in read.within(table, "tr")
        if [read.text(i) for i in read.within(row, "td")][1:2] == ["2"]
    ]
    assert cells[0] == "model-r2 (R\u00a0=\u00a02)"
    assert cells[2] == "846"
    assert re.fullmatch(r"8\d\d to 8\d\d", cells[3])
    assert cells[4:] == ["24", "12"]


def test_hostile_text_stays_text() -> None:
    name = "</title><script>alert(1)</script>\x00\u202e$x$"
    rows = [row.model_copy(update={"source": source(2, name=name)}) for row in probe_rows(2)]
    rows.append(NoteRow(source=source(2, name=name), text="<img src=x onerror=alert(1)> `</code>`"))
    html = page(rows)
    read = Page(html)
    assert len(read.find("script")) == 2  # the page's own, and the passage's data
    assert not read.find("img")
    assert not [key for _, found, _ in read.elements for key in found if key.startswith("on")]
    assert "\x00" not in html
    assert not re.search("[\u202a-\u202e\u2066-\u2069\u200b\u2028]", html)
    assert "\u27e8U+202E\u27e9" in html
    assert "<img src=x" in read.text(read.find("section", id="sources")[0])


def test_a_passage_is_whole_and_keeps_its_lines() -> None:
    read = Page(named("r2"))
    shown = [read.text(i) for i in read.find("span", role="option")]
    code = "".join(shown)
    assert code.startswith("def area(width, height):\n    # one number\n\treturn")
    assert all(shown), "a token that cannot be seen"
    (data,) = [json.loads(read.text(i)) for i in read.find("script", type="application/json")]
    assert len(data["tokens"]) == len(shown)
    assert data["tokens"][0]["r"] == []
    assert [len(token["c"]) for token in data["tokens"][1:]] == [2] * (len(shown) - 1)
    told = [token["t"] for token in data["tokens"]]
    assert "</script>" in told
    assert "\u27e8U+0000\u27e9" in told
    assert not set("".join(told)) & set("\x00\u202e\u2028\n\t")
    assert len(told) >= len(HOSTILE)


def test_a_large_model_stays_below_two_megabytes() -> None:
    html = page(probe_rows(2, layers=14, heads=40, documents=20))
    assert len(html.encode()) < MEGABYTES
    read = Page(html)
    squares = read.within(read.find("figure", id="figure-similarity-0")[0], "image")
    assert len(squares) == 14 * 2


def test_the_same_records_give_the_same_page() -> None:
    assert page(probe_rows(2)) == named("r2")


def test_no_rows_of_a_kind_is_no_error() -> None:
    rows = [row for row in probe_rows(2) if row.kind in ("measure", "note")]
    assert "a passage of text" in page(rows)
    Page(page([row for row in probe_rows(2) if row.kind == "sample"]))


def test_the_advice_stands_first_with_its_reasons() -> None:
    read = Page(named("several"))
    first = read.find("section")[0]
    (headline,) = [i for i in read.find("p", class_="big") if first in read.inside[i]]
    assert read.text(headline) == "Train and run with 2 loops"
    said = read.text(first)
    for part in ("Why", "What would change it", "Caveats", "bits per byte", "99 %"):
        assert part in said
    table = read.within(first, "table")[0]
    assert [read.text(i) for i in read.within(table, "th")] == ["", "loop 1", "loop 2", "loop 3"]


def test_one_checkpoint_is_advised_on_running_it() -> None:
    read = Page(named("r2"))
    headline = read.text(read.find("p", class_="big")[0])
    assert headline == "Run this checkpoint with 2 loops"
    assert not read.find("figure", id="figure-loss-0")
    (caption,) = read.within(read.find("figure", id="figure-exits")[0], "figcaption")
    assert "is best after loop 2" in read.text(caption)
    assert "not how many to train" in read.text(caption)


def test_published_scores_have_a_figure_and_every_task() -> None:
    read = Page(named("published"))
    figure = read.find("figure", id="figure-loss-0")[0]
    said = read.text(read.within(figure, "figcaption")[0])
    assert "2 loops have the best benchmark scores, 46.5 points, better than 1 by 8.46" in said
    assert "HumanEval+" in read.text(read.within(figure, "table")[1])
    (scissors,) = read.find("figure", id="figure-scissors-1")
    assert "Loop 3 changes the prediction by 75 %" in read.text(scissors)


def test_it_can_say_that_nothing_can_be_told() -> None:
    read = Page(named("r1"))
    headline = read.text(read.find("p", class_="big")[0])
    assert headline == "These measurements cannot tell"


def test_runs_that_cannot_be_compared_are_shown_without_an_advice() -> None:
    other = source(3).model
    assert other is not None
    elsewhere = other.model_copy(update={"architecture": "ff" * 32, "width": 512})
    rows = [
        row.model_copy(update={"source": row.source.model_copy(update={"model": elsewhere})})
        for row in probe_rows(3)
    ]
    read = Page(page(probe_rows(2), rows))
    first = read.text(read.find("section", id="recommendation")[0])
    assert "No advice" in first
    assert "two architectures" in first
    assert read.find("figure", id="figure-step_size")


def test_measured_costs_are_told_from_formulas() -> None:
    row = {"engine": "loopcoder", "schedule": "parallel", "measured": "decode", "prompt": 64}
    bench = Bench(
        name="decode.json",
        machine={"processor": "Made-up 9000", "threads": 1},
        model={"name": "model-r2"},
        rows=(
            {**row, "case": "R1", "loops": 1, "median_s": 0.0030},
            {**row, "case": "R2", "loops": 2, "median_s": 0.0036},
        ),
        ratios={"R2 / R1": 1.17},
    )
    run = as_run("probe.jsonl", probe_rows(2))
    read = Page(render(Evidence(runs=(run,), benches=(bench,))))
    costs = read.find("figure", id="figure-costs")[0]
    assert "1.17 times in decode latency (measured)" in read.text(costs)
    assert "times in decode FLOPs (formula)" in read.text(costs)
    assert "3.60 ms" in read.text(costs)
    missing = [read.text(i) for i in read.find("p", class_="missing")]
    assert not any("a measured latency" in line for line in missing)
