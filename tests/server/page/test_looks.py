"""How the page stands: widths, themes, names for screen readers, contrast, long answers."""

import random
from itertools import pairwise
from typing import Any

import pytest

pytestmark = pytest.mark.slow

# Every piece of text that can be seen, with the ratio of WCAG 2 to the colours behind it.
CONTRAST = """() => {
  const canvas = Object.assign(document.createElement("canvas"), { width: 1, height: 1 });
  const brush = canvas.getContext("2d", { willReadFrequently: true });
  const rgba = (colours) => {
    brush.clearRect(0, 0, 1, 1);
    for (const colour of colours) { brush.fillStyle = colour; brush.fillRect(0, 0, 1, 1); }
    return [...brush.getImageData(0, 0, 1, 1).data];
  };
  const light = (colours) => {
    const [r, g, b] = rgba(colours).map((c) => c / 255)
      .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const low = [];
  let read = 0;
  for (const node of document.body.querySelectorAll("*")) {
    const own = [...node.childNodes].some((c) => c.nodeType === 3 && c.data.trim());
    const apart = node.closest(".sr, .skip, :disabled, template");
    if (!own || apart || !node.checkVisibility()) continue;
    const behind = [];
    for (let at = node; at; at = at.parentElement) {
      behind.unshift(getComputedStyle(at).backgroundColor);
    }
    const [a, b] = [light(behind), light([...behind, getComputedStyle(node).color])];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    read += 1;
    if (ratio < 4.5) low.push([node.tagName, node.className, node.textContent.slice(0, 30), ratio]);
  }
  return { read, low };
}"""


AT_END = """() => {
  const text = document.querySelector(".text");
  return text.scrollTop > 0 && text.scrollHeight - text.scrollTop - text.clientHeight < 2;
}"""


@pytest.mark.parametrize("compare", [False, True])
def test_nothing_is_wider_than_the_screen(visit: Any, compare: bool) -> None:
    seen = visit(1600)
    seen.answer(compare=compare, loops=4)
    for width in (320, 400, 800, 1000, 1280, 1600):
        seen.tab.set_viewport_size({"width": width, "height": 900})
        assert seen.run("document.documentElement.scrollWidth") == width
        boxes = [each.bounding_box() for each in seen.get("button:visible, .text, #panel").all()]
        assert all(box["x"] >= 0 and box["x"] + box["width"] <= width for box in boxes)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_theme_can_be_switched_and_read(visit: Any, scheme: str) -> None:
    seen = visit(color_scheme=scheme)

    def is_dark() -> bool:
        colour = seen.run("getComputedStyle(document.body).backgroundColor")
        dark: bool = sum(int(part) for part in colour[4:-1].split(",")) < 380
        return dark

    seen.answer(compare=True, max_tokens=40)
    assert is_dark() == (scheme == "dark")
    for _ in range(2):
        read = seen.run(CONTRAST)
        assert read["read"] > 100
        assert read["low"] == []
        seen.get("#theme").click()
    seen.get("#theme").click()
    assert is_dark() == (scheme == "light")
    seen.tab.reload()
    assert is_dark() == (scheme == "light")


def test_everything_that_takes_the_focus_has_a_name(visit: Any) -> None:
    seen = visit()
    seen.answer(compare=True, loops=3)
    nodes = seen.context.new_cdp_session(seen.tab).send("Accessibility.getFullAXTree")["nodes"]
    focusable = [
        (node["role"]["value"], node["name"]["value"])
        for node in nodes
        if any(each["name"] == "focusable" for each in node.get("properties", []))
        and node["role"]["value"] != "RootWebArea"
    ]
    roles = {role for role, _ in focusable}
    assert {"option", "slider", "textbox", "spinbutton", "checkbox", "radio", "button"} <= roles
    assert [role for role, name in focusable if not name.strip()] == []
    sliders = [name for role, name in focusable if role == "slider"]
    assert sliders == [f"Where the model hesitated, with {r}" for r in ("1 loop", "3 loops")]


def test_roles_are_what_a_screen_reader_needs(visit: Any) -> None:
    api = pytest.importorskip("playwright.sync_api")
    seen = visit()
    seen.answer(max_tokens=6)
    seen.option(2).click()
    expect = api.expect
    expect(seen.get("main")).to_match_aria_snapshot("""
- form "Prompt and settings":
  - group "What the prompt is":
    - radio "Completion" [checked]
    - radio "Chat"
  - textbox "Prompt"
  - spinbutton "Loops R": "2"
  - spinbutton "Max tokens": "6"
  - checkbox "Compare with R = 1, side by side"
  - button "Generate"
  - button "Stop" [disabled]
  - status: /2 loops. 6 tokens/
- region "What the model wrote":
  - article "Answer with 2 loops":
    - heading "2 loops" [level=2]
    - button "Copy the answer with 2 loops"
    - listbox "Tokens of the answer with 2 loops":
      - option /token .*, shift .* nats, probability/
      - option
      - option [selected]
    - slider "Where the model hesitated, with 2 loops"
- complementary "The chosen token":
  - heading [level=2]
  - region "Loop 1":
    - list "Likeliest tokens of loop 1":
      - listitem
  - region "Loop 2":
    - list "Likeliest tokens of loop 2":
      - listitem
  - img /Gate of loop 2. layer 1 .* layer 4/
""")


def test_a_long_answer_is_appended_to_and_never_redrawn(visit: Any) -> None:
    """The browser lays out the newest block alone: nothing is removed, and blocks stay small."""
    seen = visit().ready()
    seen.run("""() => {
      window.removed = 0;
      new MutationObserver((all) => {
        for (const one of all) window.removed += one.target.closest(".answer") &&
          !one.target.closest(".measures, .most") ? one.removedNodes.length : 0;
      }).observe(document.querySelector("#answers"), { childList: true, subtree: true });
    }""")
    seen.tab.set_viewport_size({"width": 1000, "height": 500})
    seen.answer(max_tokens=200, temperature=1)
    assert len(seen.tokens()) == 200
    assert seen.run("window.removed") == 0
    sizes = seen.run("[...document.querySelectorAll('.block')].map((b) => b.childElementCount)")
    assert len(sizes) > 1
    assert sum(sizes) == 200
    seen.tab.wait_for_function(AT_END)  # it followed the text
    seen.get(".text").hover()
    seen.tab.mouse.wheel(0, -300)
    seen.tab.wait_for_function(f"() => !({AT_END})()")
    selected = seen.run("""() => {
      getSelection().selectAllChildren(document.querySelector(".text"));
      return getSelection().toString();
    }""")
    assert selected.rstrip("\n") == "".join(seen.tokens()).rstrip("\n")


def test_motion_is_reduced_where_that_is_asked_for(visit: Any) -> None:
    moving = "getComputedStyle(document.querySelector('#live-meter'), '::after').transitionDuration"
    assert visit(reduced_motion="reduce").run(moving) == "0s"
    assert visit(reduced_motion="no-preference").run(moving) != "0s"


def _case(dice: random.Random) -> dict[str, Any]:
    """A text in random tokens of bytes, and pushes in which text and tokens run apart."""
    text = "".join(dice.choice("a b\n\u00e9\u2500\U0001f600") for _ in range(dice.randrange(1, 30)))
    data = text.encode()
    cuts = sorted({0, len(data), *(dice.randrange(len(data) + 1) for _ in range(12))})
    tokens = [list(data[a:b]) for a, b in pairwise(cuts)]
    pushes, said, told = [], 0, 0
    while said < len(text) or told < len(tokens):
        more, ahead = dice.randrange(4), dice.randrange(3)
        pushes.append([text[said : said + more], tokens[told : told + ahead]])
        said, told = said + more, told + ahead
    return {"text": text, "tokens": tokens, "pushes": pushes}


def test_text_goes_to_the_token_that_completes_it(visit: Any) -> None:
    """However text and tokens run apart, each character is at the token of its last byte."""
    dice = random.Random(0)
    cases = [_case(dice) for _ in range(300)]
    placed = visit().run(
        """async (cases) => {
          const { Placing } = await import("/page/placing.js");
          return cases.map(({ pushes }) => {
            const placing = new Placing();
            const all = [];
            const fill = (parts) => { for (const [token, text] of parts) token.text += text; };
            for (const [text, tokens] of pushes) {
              const made = tokens.map((bytes) => ({ lens: { bytes }, text: "" }));
              all.push(...made);
              fill(placing.add(text, made));
            }
            fill(placing.close());
            return [all.map((token) => token.text), placing.rest];
          });
        }""",
        [{"pushes": case["pushes"]} for case in cases],
    )
    for case, (texts, rest) in zip(cases, placed, strict=True):
        assert rest == ""
        assert "".join(texts) == case["text"]
        written = b""
        for own, token in zip(texts, case["tokens"], strict=True):
            whole = (written + bytes(token)).decode(errors="ignore")
            assert own == whole[len(written.decode(errors="ignore")) :]
            written += bytes(token)


def test_a_text_that_differs_from_the_bytes_is_kept(visit: Any) -> None:
    """A tokenizer may drop the first space; a stop string may cut a token short."""
    texts = visit().run("""async () => {
      const { Placing } = await import("/page/placing.js");
      const token = (text) => ({ lens: { bytes: [...new TextEncoder().encode(text)] }, text: "" });
      const run = (...pushes) => {
        const placing = new Placing();
        const fill = (parts) => { for (const [to, text] of parts) to.text += text; };
        for (const [text, tokens] of pushes) fill(placing.add(text, tokens));
        fill(placing.close());
        return pushes.flatMap(([, tokens]) => tokens.map((each) => each.text));
      };
      return [
        run(["def", [token(" def")]], [" x", [token(" x")]]),
        run(["", [token("re")]], ["return", [token("turn")]]),
        run(["ab", []], ["", [token("abSTOP")]]),
      ];
    }""")
    assert texts == [["def", " x"], ["re", "turn"], ["ab"]]
