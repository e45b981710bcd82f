"""The front's side of the engine process: requests go out, each one's tokens come back."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any, Self

from loopcoder.engine.sequence import Request
from loopcoder.errors import RequestError
from loopcoder.server.messages import (
    Abort,
    Add,
    EngineSpec,
    Failed,
    Ready,
    Refused,
    Step,
    Token,
    Vocabulary,
)


class EngineError(RuntimeError):
    """The engine process could not be built, or has ended, through no fault of the user's."""


class QueueFullError(Exception):
    """No more sequences may wait; `retry_after` is a guess in seconds of when they may."""

    def __init__(self, waiting: int, retry_after: int) -> None:
        super().__init__(f"{waiting} sequences are waiting already; try again in {retry_after} s")
        self.retry_after = retry_after


class StoppedError(Exception):
    """The server stopped while the request ran."""


class Answer:
    """The tokens of requests that came together. Leaving its `with` block stops the work."""

    def __init__(self, client: "EngineClient", requests: Sequence[Request]) -> None:
        self.open = {request.request_id: request for request in requests}
        self.sequences = sum(request.params.n for request in requests)
        self._client = client
        self._waiting: deque[Token | Exception] = deque()
        self._news = asyncio.Event()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._client.drop(self)

    def put(self, item: Token | Exception) -> None:
        """A token, or the reason why no more will come."""
        self._waiting.append(item)
        self._news.set()

    async def next(self) -> list[Token]:
        """All tokens that have come since the last call, one at least; empty after the end.

        Raises `RequestError` where the engine refused, `EngineError` and `StoppedError` where
        the answer broke off.
        """
        while not self._waiting:
            if not self.open:
                return []
            self._news.clear()
            await self._news.wait()
        tokens: list[Token] = []
        while self._waiting:
            item = self._waiting[0]
            if isinstance(item, Exception):
                if tokens:
                    break
                raise item
            tokens.append(item)
            self._waiting.popleft()
        return tokens


@dataclass(kw_only=True)
class Pace:
    """How fast sequences have lately been finished: what a queue's length means in seconds."""

    interval: float = 1.0
    last: float | None = None

    def finished(self, now: float) -> None:
        """Note that a sequence is over."""
        if self.last is not None:
            self.interval += 0.1 * (min(now - self.last, 60.0) - self.interval)
        self.last = now


class EngineClient:
    """Starts the engine process and talks with it. Made before the event loop runs."""

    def __init__(self, spec: EngineSpec) -> None:
        ours, theirs = socket.socketpair()
        environment = dict(os.environ)
        if spec.threads is not None:
            environment["OMP_NUM_THREADS"] = str(spec.threads)
        # Ctrl-C reaches the whole group, and systemd tells every process to stop: but only the
        # front decides, and the engine ends with the pipe. A blocked signal stays so in the child.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "loopcoder.server.engine_process", str(theirs.fileno())],
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
                stdout=sys.stderr,
                env=environment,
            )
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        self._pipe = Connection(ours.detach())
        self._pipe.send(spec)
        self._answers: dict[str, Answer] = {}
        self._sequences = 0
        self.unread = 0  # answers that somebody is still being told
        self._capacity = 0
        self._pace = Pace()
        self.slots = 0
        self.stats: dict[str, Any] = {}
        self.on_token: Callable[[Request, Token], None] = lambda request, token: None
        self.on_death: Callable[[], None] = lambda: None

    def ready(self, words: Vocabulary, *, slots: int, queue: int) -> dict[str, Any]:
        """Wait until the engine stands; facts about it. Blocks for as long as weights load.

        Raises `EngineError`, or `RequestError` where the user's input is the reason.
        """
        try:
            with suppress(BrokenPipeError):  # then it has failed already, and has said why
                self._pipe.send(words)
            message = self._pipe.recv()
        except (EOFError, OSError) as error:
            status = self.process.wait()
            raise EngineError(f"the engine process ended with status {status}") from error
        if isinstance(message, Failed):
            self.process.wait()
            raise (RequestError if message.user else EngineError)(message.message)
        assert isinstance(message, Ready)
        self.slots, self._capacity = slots, slots + queue
        return message.facts

    def listen(self) -> None:
        """Hear what the engine says, from now on, in the running event loop."""
        asyncio.get_running_loop().add_reader(self._pipe.fileno(), self._hear)

    @property
    def outstanding(self) -> int:
        """Sequences that run or wait."""
        return self._sequences

    def submit(self, requests: Sequence[Request]) -> Answer:
        """Queue requests; to be used as `with client.submit(requests) as answer`.

        Raises `RequestError` for more sequences than could ever wait together, `QueueFullError`
        for more than may join those that run and wait now.
        """
        answer = Answer(self, requests)
        together = self._sequences + answer.sequences
        if answer.sequences > self._capacity:
            raise RequestError(
                f"the request asks for {answer.sequences} texts (prompts x n), and the server "
                f"takes {self._capacity} at most; split it"
            )
        if together > self._capacity:
            waiting = max(0, self._sequences - self.slots)
            seconds = self._pace.interval * (together - self._capacity)
            raise QueueFullError(waiting, max(1, min(60, round(seconds))))
        self._sequences += answer.sequences
        self.unread += 1
        for request in requests:
            self._answers[request.request_id] = answer
            self._say(Add(request))
        return answer

    def drop(self, answer: Answer) -> None:
        """Forget an answer; what of it is not complete is stopped."""
        self.unread -= 1
        for request_id in list(answer.open):
            self._stop(answer, request_id)

    def stop_all(self, reason: Exception) -> None:
        """End every answer that is under way, each with `reason`."""
        for request_id, answer in list(self._answers.items()):
            self._stop(answer, request_id)
            answer.put(reason)

    def _stop(self, answer: Answer, request_id: str) -> None:
        self._close(answer, request_id)
        self._say(Abort(request_id))

    def _close(self, answer: Answer, request_id: str) -> None:
        del self._answers[request_id]
        self._sequences -= answer.open.pop(request_id).params.n

    def close(self) -> None:
        """End the process; it keeps nothing that could be lost."""
        self._pipe.close()
        self.process.kill()
        self.process.wait()

    def _say(self, message: Add | Abort) -> None:
        try:
            self._pipe.send(message)
        except OSError:  # it is dead: `_hear` will tell everyone
            return

    def _hear(self) -> None:
        try:
            message = self._pipe.recv()
        except (EOFError, OSError):
            asyncio.get_running_loop().remove_reader(self._pipe.fileno())
            self.stop_all(EngineError("the engine process has ended"))
            self.on_death()
            return
        if isinstance(message, Refused):
            answer = self._answers.get(message.request_id)
            if answer is not None:
                self._close(answer, message.request_id)
                answer.put(RequestError(message.message))
            return
        assert isinstance(message, Step)
        for token in message.tokens:
            self._deliver(token)
        if message.stats is not None:
            self.stats = message.stats

    def _deliver(self, token: Token) -> None:
        if token.finish_reason is not None:
            self._pace.finished(asyncio.get_running_loop().time())
        answer = self._answers.get(token.request_id)
        if answer is None:  # it was stopped while the token was on its way
            return
        self.on_token(answer.open[token.request_id], token)
        answer.put(token)
        if token.end is not None:
            self._close(answer, token.request_id)
