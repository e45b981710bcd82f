"""The page in a real browser, and what the browser complained of or asked for meanwhile."""

import json
from typing import Any

# Keeps a copy of what the server sends, as the browser's own log drops some of it.
LISTEN = """
const ask = window.fetch;
window.sent = [];
window.fetch = async (to, options) => {
  const place = options?.method === "POST" ? window.sent.push("") - 1 : -1;
  const response = await ask(to, options);
  if (place < 0) return response;
  response.clone().text().then((text) => { window.sent[place] = text; }, () => {});
  return response;
};
"""
PROMPT = "def fibonacci(n):\n"


class Visit:
    """One tab. `refused` are the statuses that the browser may complain of."""

    def __init__(self, browser: Any, url: str, *, width: int = 1280, **options: Any) -> None:
        self.url = url
        self.refused: set[int] = set()
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.bodies: list[dict[str, Any]] = []
        self.context = browser.new_context(
            viewport={"width": width, "height": 900},
            permissions=["clipboard-read", "clipboard-write"],
            **options,
        )
        self.context.add_init_script(LISTEN)
        self.tab = self.context.new_page()
        self.tab.on("console", lambda message: self.complaints.append(message.text))
        self.tab.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.tab.on("request", self._asked)
        self.tab.goto(url)
        self.get = self.tab.locator

    def _asked(self, request: Any) -> None:
        self.requests.append(request.url)
        if request.method == "POST":
            self.bodies.append(request.post_data_json)

    def streamed(self, post: int = 0) -> tuple[str, list[dict[str, Any]]]:
        """What the server sent for a request of the page: the text, and the lens of each token."""
        sent: str = self.run("(post) => window.sent[post]", post)
        events = [json.loads(line[5:]) for line in sent.splitlines() if line.startswith("data: {")]
        choices = [event["choices"][0] for event in events]
        lenses = [lens for choice in choices for lens in choice["loop_lens"]]
        return "".join(choice["text"] for choice in choices), lenses

    def run(self, script: str, argument: Any = None) -> Any:
        return self.tab.evaluate(script, argument)

    def press(self, *keys: str) -> None:
        for key in keys:
            self.tab.keyboard.press(key)

    def ready(self) -> "Visit":
        """The model is known."""
        self.get("#facts b").wait_for()
        return self

    def ask(self, **fields: Any) -> None:
        """Fill the form and press Generate; `compare` is a switch, the rest are fields."""
        self.ready()
        given = {"prompt": PROMPT, "max_tokens": 24, "temperature": 0.6, "seed": 4, **fields}
        self.get("#compare").set_checked(bool(given.pop("compare", False)))
        for name, value in given.items():
            self.get(f"#{name}").fill(str(value))
        self.get("#generate").click()

    def done(self) -> None:
        """The answer has ended."""
        self.get("#stop:disabled").wait_for()

    def answer(self, **fields: Any) -> None:
        """Ask, and wait for the end."""
        self.ask(**fields)
        self.done()

    def option(self, index: int, answer: int = 0) -> Any:
        """The token `index` of an answer."""
        return self.get(".answer").nth(answer).locator(f".text [data-i='{index}']")

    def tokens(self, answer: int = 0) -> list[str]:
        """The text of each token of an answer, exactly."""
        script = "(a) => [...document.querySelectorAll('.answer')[a].querySelectorAll("
        texts: list[str] = self.run(script + "'[role=option]')].map((o) => o.textContent)", answer)
        return texts

    def panel(self) -> str:
        text: str = self.get("#panel").inner_text()
        return text

    def close(self) -> None:
        """Close the tab and check what every visit must hold."""
        self.context.close()
        expected = tuple(f"the server responded with a status of {code}" for code in self.refused)
        odd = [
            line
            for line in self.complaints
            if not (expected and any(each in line for each in expected))
            and not (0 in self.refused and "net::ERR_" in line)
        ]
        assert odd == []
        assert [each for each in self.requests if not each.startswith(self.url)] == []
