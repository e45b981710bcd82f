"""The page at / against a real server: streams, lens, keys, comparison, chat."""

from typing import Any

import pytest

from tests.server.serving import Served

pytestmark = pytest.mark.slow

STATUS = "#status"


def test_it_streams_what_the_server_sends(visit: Any) -> None:
    seen = visit()
    seen.answer()
    text, lenses = seen.streamed()
    assert len(lenses) == 24
    assert seen.tokens() == [lens["token"] for lens in lenses]
    assert "".join(seen.tokens()) == text
    assert "loopcoder-nano" in seen.get("#facts").inner_text()
    for part in ("24 tokens", "tokens/s", "first after", "seed 4", "cut at max tokens"):
        assert part in seen.get(".measures").inner_text()
        assert part in seen.get(STATUS).inner_text()
    seen.get(".copy").click()
    assert seen.run("navigator.clipboard.readText()") == text


def test_it_stops_at_once_and_asks_but_once(visit: Any, server: Served) -> None:
    server.idle()
    seen = visit()
    seen.ask(max_tokens=1500)
    seen.option(3).wait_for(state="attached")
    assert seen.get("#stop").is_enabled()
    assert seen.get("#generate").is_disabled()
    assert seen.get(STATUS).inner_text() == "Generating."
    seen.get("#prompt").focus()
    seen.press("Control+Enter")  # a second time, while the first runs
    seen.get("#stop").click()
    seen.done()
    server.idle()
    assert len(seen.bodies) == 1
    assert 3 < len(seen.tokens()) < 1500
    assert "stopped" in seen.get(".measures").inner_text()
    assert seen.get("#error").is_hidden()
    seen.get("#prompt").focus()
    seen.get("#max_tokens").fill("4")
    seen.press("Control+Enter")
    seen.get(".measures", has_text="4 tokens").wait_for()


def test_parts_of_characters_go_to_the_token_that_completes_them(visit: Any) -> None:
    """After box-drawing characters nano writes more of them, of two tokens each, and halves."""
    seen = visit()
    seen.answer(prompt="\u2500" * 15, max_tokens=64)
    text, lenses = seen.streamed()
    assert seen.run("document.querySelector('.text').textContent") == text
    shown = seen.tokens()
    halves = [bytes(lens["bytes"]) for lens in lenses]
    first = next(i for i in range(63) if halves[i] + halves[i + 1] == "\u2500".encode())
    assert shown[first : first + 2] == ["", "\u2500"]
    seen.option(first).click()
    assert f"bytes {halves[first].hex(' ')}" in seen.panel()
    assert "It has no text of its own" in seen.panel()
    assert seen.option(first).bounding_box()["width"] > 3  # it can be pointed at
    assert seen.option(first).get_attribute("aria-label").startswith("token bytes e2")


def test_the_panel_tells_the_lens_of_the_token(visit: Any) -> None:
    seen = visit()
    seen.answer()
    lens = seen.streamed()[1][7]
    seen.option(7).click()
    panel = seen.panel()
    assert f"token 8 of 24, R = 2 · id {lens['token_id']} · bytes" in panel
    moved = float(panel.split("Loop 2 moved the prediction by ")[1].split(" nats")[0])
    assert moved == pytest.approx(lens["shift"][0], rel=0.01, abs=0.001)
    for loop in (1, 2):
        facts = seen.get("#panel").get_by_role("region", name=f"Loop {loop}", exact=True)
        shown = facts.inner_text()
        assert f"rank\n{lens['rank'][loop - 1]:,}" in shown
        candidates = facts.get_by_role("listitem").all_inner_texts()
        likeliest = lens["candidates"][loop - 1]
        marks = [each["token"].replace(" ", "·").replace("\n", "⏎") for each in likeliest]
        assert [text.split("\n")[0] for text in candidates[:5]] == marks
        assert sum("(the chosen token)" in text for text in candidates) == 1
    drawn = seen.get("#panel [role=img]").get_attribute("aria-label")
    assert drawn.startswith("Gate of loop 2: layer 1 ")
    gates = [float(each.split()[-1]) for each in drawn.split(", ")]
    assert gates == pytest.approx(lens["gate"][0], abs=0.006)
    shares = [float(each) for each in seen.get("#panel .bars").inner_text().split()[2::3]]
    assert shares == pytest.approx(lens["entropy"], rel=0.01)
    name = seen.option(7).get_attribute("aria-label")
    assert name.startswith("token ")
    assert "shift 0." in name
    assert "nats, probability" in name


def test_pointing_shows_and_a_click_holds(visit: Any) -> None:
    seen = visit()
    seen.answer()
    seen.option(3).hover()
    shown = seen.panel()
    assert "token 4 of 24" in shown
    seen.option(5).click()
    seen.option(9).hover()
    assert "token 6 of 24" in seen.panel()
    seen.press("Escape")
    seen.option(10).hover()
    assert "token 11 of 24" in seen.panel()


def test_keys_move_between_tokens(visit: Any) -> None:
    seen = visit()
    seen.answer(max_tokens=48)
    place = "Number(document.activeElement.dataset.i)"
    seen.option(0).focus()
    places = []
    for key in ("ArrowRight", "ArrowRight", "ArrowDown", "ArrowUp", "ArrowLeft", "End"):
        seen.press(key)
        places.append(seen.run(place))
        assert f"token {places[-1] + 1} of 48" in seen.panel()
        assert seen.get("[role=option][aria-selected=true]").count() == 1
        assert seen.get("[role=option][tabindex='0']").count() == 1
    assert places[:2] == [1, 2]
    tops = [seen.option(i).evaluate("(o) => o.getClientRects()[0].top") for i in places[1:4]]
    assert tops[0] < tops[1]
    assert tops[2] == tops[0]
    assert places[4:] == [places[3] - 1, 47]
    seen.press("Home", "Enter")
    assert seen.run("document.activeElement.id") == "panel"
    seen.press("Escape")
    assert seen.run(place) == 0
    strip = seen.get(".strip")
    strip.focus()
    seen.press("End", "ArrowLeft")
    assert strip.get_attribute("aria-valuenow") == "47"
    assert "entropy" in strip.get_attribute("aria-valuetext")
    assert "token 47 of 48" in seen.panel()
    strip.locator("i").nth(20).click()
    assert "token 21 of 48" in seen.panel()


def test_two_answers_side_by_side(visit: Any) -> None:
    seen = visit(1600)
    seen.answer(compare=True)
    one, two = (seen.streamed(post)[1] for post in (0, 1))
    for number, expected in enumerate((one, two)):
        assert seen.tokens(number) == [lens["token"] for lens in expected]
    assert [body["loops"] for body in seen.bodies] == [1, 2]
    assert len({body["seed"] for body in seen.bodies}) == 1
    ids = [[lens["token_id"] for lens in each] for each in (one, two)]
    parted = next(i for i, (a, b) in enumerate(zip(*ids, strict=True)) if a != b)
    marked = "[...document.querySelectorAll('.text .differs')].map((o) => Number(o.dataset.i))"
    assert seen.run(marked) == [parted, parted]
    assert f"The same for {parted} tokens" in seen.get("#difference").inner_text()
    seen.get("#difference-show").click()
    assert f"token {parted + 1} of 24, R = 2" in seen.panel()
    for answer in (0, 1):
        box, token = seen.get(".text").nth(answer).bounding_box(), seen.option(parted, answer)
        assert box["y"] < token.bounding_box()["y"] < box["y"] + box["height"]
    seen.option(2, answer=0).click()
    assert "token 3 of 24, R = 1" in seen.panel()
    assert "One loop put this token at" in seen.panel()
    assert seen.get("[role=option][aria-selected=true]").count() == 1
    left, right = (seen.get(".answer").nth(n).bounding_box() for n in (0, 1))
    assert left["x"] + left["width"] <= right["x"]
    assert left["y"] == right["y"]


def test_more_loops_tint_by_the_loop_that_is_chosen(visit: Any) -> None:
    seen = visit()
    seen.answer(loops=3)
    tints = "[...document.querySelectorAll('[role=option]')].map((o) => o.style.cssText)"
    before = seen.run(tints)
    assert len(set(before)) > 5
    seen.get("#tint-loop").get_by_role("button", name="loop 3").click()
    assert seen.run(tints) != before
    assert "loop 3 moved the prediction by" in seen.get("#legend").inner_text()
    seen.option(4).click()
    assert seen.get("#panel").get_by_role("region", name="Loop 3", exact=True).count() == 1
    assert seen.get("#panel [role=img]").count() == 2  # gates of loops 2 and 3
    assert "trained at 2 loops; at 3 its text may be poor" in seen.get(".note").inner_text()


def test_a_conversation_goes_on(visit: Any) -> None:
    seen = visit().ready()
    seen.get("label", has_text="Chat").click()
    seen.answer(prompt="What is a loop?", max_tokens=8)
    assert seen.get("#prompt").input_value() == ""
    said = "".join(seen.tokens())
    assert "What is a loop?" in seen.get("#turns").text_content()
    seen.answer(prompt="And two?", max_tokens=8)
    assert [each["role"] for each in seen.bodies[1]["messages"]] == ["user", "assistant", "user"]
    assert seen.bodies[1]["messages"][1]["content"] == said
    seen.get("#conversation summary").click()
    seen.get("#forget").click()
    assert seen.get("#conversation").is_hidden()
    seen.answer(prompt="Anew", max_tokens=4)
    assert len(seen.bodies[2]["messages"]) == 1


def test_a_reload_loses_nothing_that_was_typed(visit: Any) -> None:
    seen = visit().ready()
    seen.get("#prompt").fill("class Loop:\n    ")
    seen.get("#temperature").fill("1.5")
    seen.get("#compare").check()
    seen.tab.reload()
    seen.ready()
    assert seen.get("#prompt").input_value() == "class Loop:\n    "
    assert seen.get("#temperature").input_value() == "1.5"
    assert seen.get("#compare").is_checked()


def test_speed_and_memory_are_live(visit: Any) -> None:
    seen = visit()
    seen.ask(max_tokens=1500)
    seen.get("#live-speed", has_text="tokens/s").wait_for()
    seen.get("#live-requests", has_text="1 running").wait_for()
    seen.get("#stop").click()
    seen.get("#live-requests", has_text="0 running").wait_for()
    assert seen.get("#live-memory").inner_text().endswith(("MB", "GB"))
    assert " of " in seen.get("#live-cache").inner_text()
