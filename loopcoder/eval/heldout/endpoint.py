"""Documents scored by an OpenAI-compatible endpoint: /v1/completions with echo and logprobs."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from loopcoder.errors import DataError, EvaluationError
from loopcoder.eval.heldout.echo import EchoError, read_echo
from loopcoder.eval.heldout.scores import DocumentScore, Settled
from loopcoder.eval.heldout.texts import Texts

if TYPE_CHECKING:
    import httpx

_PASSING = {429, 500, 502, 503, 504}  # statuses that another try may not meet
_CHARACTERS = 4  # of a token, until the endpoint's own are known
_MORE = 1.25  # of the text that a window may need, so that no window ends where its text is cut
_SHOWN = 200  # characters of an endpoint's message


class _GoneError(EchoError):
    """Nobody answers at the address."""


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """A server; `base_url` ends in /v1. `model` None is the one it names first.

    `loops` is asked for with each request, if given. `connections` documents are scored at once;
    each request may take `timeout` seconds and is tried `attempts` times.
    """

    base_url: str
    model: str | None = None
    api_key: str | None = None
    loops: int | None = None
    connections: int = 8
    timeout: float = 600.0
    attempts: int = 4
    pause: float = 0.5  # seconds before the second try; it doubles with each

    async def score(
        self, texts: Texts, numbers: Sequence[int], length: int, settled: Settled
    ) -> None:
        """Score documents, some at a time; `settled` hears of each, scored or not.

        Once nobody answers at the address, what is left is not asked for. Raises `DataError` for a
        corpus, `EvaluationError` where the endpoint does not say which model it has.
        """
        import httpx

        if texts.corpus:
            raise DataError(f"{texts.name}: holds tokens; give an endpoint files of text")
        headers = {} if self.api_key is None else {"Authorization": f"Bearer {self.api_key}"}
        async with httpx.AsyncClient(headers=headers, timeout=self.timeout) as client:
            calls = _Calls(self, client, self.model or await self._first_model(client))
            waiting = iter(numbers)

            async def work() -> None:
                for number in waiting:  # shared: each takes the next that nobody has taken
                    settled(await calls.document(texts.names[number], texts.text(number), length))

            tasks = [asyncio.create_task(work()) for _ in range(self.connections)]
            try:
                await asyncio.gather(*tasks)
            finally:
                for task in tasks:
                    task.cancel()

    async def _first_model(self, client: "httpx.AsyncClient") -> str:
        import httpx

        url = f"{self.base_url.rstrip('/')}/models"
        try:
            answer = await client.get(url)
            answer.raise_for_status()
            return str(answer.json()["data"][0]["id"])
        except (httpx.HTTPError, httpx.InvalidURL, ValueError, LookupError, TypeError) as error:
            raise EvaluationError(
                f"{url} names no model ({error or type(error).__name__}); check the address, or "
                "give the model's name"
            ) from error


class _Calls:
    """The requests of one run."""

    def __init__(self, endpoint: Endpoint, client: "httpx.AsyncClient", model: str) -> None:
        self._endpoint = endpoint
        self._client = client
        self._url = f"{endpoint.base_url.rstrip('/')}/completions"
        self._body: dict[str, Any] = {
            "model": model,
            "max_tokens": 1,  # none is more than some endpoints take
            "temperature": 0,
            "echo": True,
            "logprobs": 1,
        }
        if endpoint.loops is not None:
            self._body["loops"] = endpoint.loops
        self._gone: str | None = None

    async def document(self, name: str, text: str, length: int) -> DocumentScore:
        """Score one document."""
        try:
            if self._gone:
                raise EchoError(f"not asked for: {self._gone}")
            return await self._windows(name, text, length)
        except _GoneError as error:
            self._gone = str(error)
            return DocumentScore(document=name, unscored=str(error))
        except EchoError as error:
            return DocumentScore(document=name, unscored=str(error))

    async def _windows(self, name: str, text: str, length: int) -> DocumentScore:
        nats, nbytes, tokens, windows = 0.0, 0, 0, 0
        start, size, known = 0, int(length * _CHARACTERS * _MORE), 0
        border: int | None = 0
        while border is not None and text:
            piece, first = text[start : start + size], start == 0
            final = start + size >= len(text)
            echo = read_echo(piece, await self._ask(piece))
            border = echo.border(length, first=first, final=final)
            if border is None and not final:
                size, border = 2 * size, 0  # the piece held fewer tokens than a window
                continue
            cost = echo.cost(border, known=known)
            nats, nbytes, tokens = nats + cost[0], nbytes + cost[1], tokens + cost[2]
            windows += 1
            if border is not None:
                start, known = start + echo.offsets[border], len(echo.tokens[border])
                size = int(echo.offsets[border] * _MORE) + length
        if not nbytes:
            raise EchoError("fewer than two tokens")
        return DocumentScore(document=name, nats=nats, bytes=nbytes, tokens=tokens, windows=windows)

    async def _ask(self, prompt: str) -> Any:
        """The answer's JSON, after a few tries. Raises `EchoError` with the last reason."""
        import httpx

        endpoint = self._endpoint
        failure: EchoError = EchoError("never asked")
        for attempt in range(endpoint.attempts):
            if attempt:
                await asyncio.sleep(endpoint.pause * 2 ** (attempt - 1))
            try:
                answer = await self._client.post(self._url, json={**self._body, "prompt": prompt})
            except httpx.TimeoutException:
                failure = EchoError(f"no answer within {endpoint.timeout:g} s")
            except httpx.ConnectError as error:
                failure = _GoneError(f"{self._url}: {error or 'no connection'}")
            except httpx.HTTPError as error:
                failure = EchoError(f"{self._url}: {error or type(error).__name__}")
            else:
                if answer.status_code == 200:
                    try:
                        return answer.json()
                    except ValueError:
                        failure = EchoError(f"the answer is not JSON: {answer.text[:_SHOWN]!r}")
                else:
                    failure = EchoError(f"status {answer.status_code}: {_message(answer)}")
                    if answer.status_code not in _PASSING:
                        break
        raise failure


def _message(answer: "httpx.Response") -> str:
    """What an endpoint says about its refusal, in OpenAI's shape or any."""
    try:
        return str(answer.json()["error"]["message"])[:_SHOWN]
    except (ValueError, LookupError, TypeError):
        return answer.text[:_SHOWN]
