"""What is asked of a server, by whom, and what came of it. No torch."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from loopcoder.errors import RequestError

OURS = "loopcoder"
ALONE = "engine alone"
PEERS = ("vllm", "transformers")


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The load: `requests` (None: four for each client, 32 at least) of `prompt` tokens, each
    answered with exactly `tokens`, by each of several numbers of `clients`."""

    clients: tuple[int, ...]
    streams: tuple[bool, ...]
    requests: int | None
    prompt: int
    tokens: int
    rounds: int

    def count(self, clients: int) -> int:
        """Requests of one measurement by so many clients."""
        return self.requests or max(32, 4 * clients)

    @property
    def slots(self) -> int:
        """Sequences that a server must be able to run together."""
        return max(self.clients)


@dataclass(frozen=True, kw_only=True)
class Case:
    """One line of the table. Clients ask, wait for the answer, and ask again.

    `stream` None: nobody asks, the engine is called directly.
    """

    engine: str
    clients: int
    stream: bool | None


@dataclass(frozen=True, kw_only=True)
class Load:
    """One measurement as a load generator sees it; `prompts` is a file of JSON lines.

    `strict` marks a server that refuses fields beyond OpenAI's, such as `ignore_eos`.
    """

    url: str
    model: str
    clients: int
    requests: int
    stream: bool
    prompts: Path
    tokenizer: Path
    strict: bool = False


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a load generator measured; times in seconds.

    `ttft` (time to the first token) and `tpot` (time per output token, after the first) are
    medians over requests; None without a stream. `tokens` were written within `seconds`;
    `processor` is what the server's processes, or the engine's, worked for them.
    """

    requests: int
    errors: int
    tokens: int
    seconds: float
    ttft: float | None = None
    ttft_p90: float | None = None
    tpot: float | None = None
    latency: float | None = None
    processor: float | None = None


class Client(Protocol):
    """A public load generator, run as a subprocess of its own Python."""

    name: str
    advice: str

    def check(self, streams: Sequence[bool], peers: Sequence[str]) -> None:
        """Raise `RequestError` for what it cannot do."""
        ...

    def command(self, python: str, load: Load, scratch: Path) -> list[str]:
        """The command that puts `load` on a server and leaves its results in `scratch`."""
        ...

    def read(self, scratch: Path) -> Outcome:
        """The results that the command left."""
        ...


def check_plan(plan: Plan, positions: int, name: str) -> None:
    """Raise `RequestError` for sequences longer than the model's positions."""
    needed = plan.prompt + plan.tokens
    if needed > positions:
        raise RequestError(
            f"--prompt and --tokens make sequences of {needed} tokens, and {name} has "
            f"{positions} positions"
        )
