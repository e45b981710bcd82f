"""Whether a grammar compiles in reasonable time, tried in a process that can be stopped.

llguidance bounds most of its work but not all of it: `{"multipleOf": 9999991}` takes it minutes
and cannot be interrupted. So a grammar is compiled here first, and reaches the engine only if that
came to an end.
"""

import math
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections import OrderedDict
from contextlib import suppress
from hashlib import sha256
from multiprocessing.connection import Connection
from random import Random
from threading import Lock
from types import SimpleNamespace
from typing import NamedTuple

from loopcoder.engine.grammar import Grammars
from loopcoder.engine.structured import grammar_text
from loopcoder.errors import RequestError
from loopcoder.types import StructuredOutputsParams

_REMEMBERED = 256  # grammars, good and bad
_MEMORY = 3 * 2**30  # of the process, in bytes
_SLOW_MACHINE = 15  # times the processor time, before the process is given up
_TRIED = 16  # tokens


class _Words(NamedTuple):
    tokenizer: str
    end_token_ids: frozenset[int]


class GrammarCheck:
    """Compiles grammars for the vocabulary of `tokenizer`, the text of a tokenizer.json.

    `seconds` of processor time is what one may take. For any thread; one grammar at a time. The
    process starts with the first one.
    """

    def __init__(
        self, tokenizer: str, end_token_ids: frozenset[int], *, seconds: float = 2.0
    ) -> None:
        self._words = _Words(tokenizer, end_token_ids)
        self._seconds = seconds
        self._process: subprocess.Popen[bytes] | None = None
        self._pipe: Connection | None = None
        self._lock = Lock()
        self._refusals: OrderedDict[bytes, str | None] = OrderedDict()

    def check(self, params: StructuredOutputsParams) -> None:
        """Raise `RequestError` for a grammar that is not valid, too large or too slow. Blocks."""
        key = sha256(grammar_text(params).encode()).digest()
        with self._lock:
            if key not in self._refusals:
                self._refusals[key] = self._judge(params)
            self._refusals.move_to_end(key)
            if len(self._refusals) > _REMEMBERED:
                self._refusals.popitem(last=False)
            refusal = self._refusals[key]
        if refusal is not None:
            raise RequestError(refusal)

    def close(self) -> None:
        """End the process."""
        with self._lock:
            self._stop()

    def _judge(self, params: StructuredOutputsParams) -> str | None:
        try:
            return self._ask(params)
        except (EOFError, OSError):  # of which a time-out is one
            self._stop()
            return (
                f"the grammar of the structured output takes more than {self._seconds:g} s of "
                "processor time or too much memory to compile; use smaller numbers in its "
                "repetitions and multipleOf, and fewer patterns that hold together"
            )

    def _ask(self, params: StructuredOutputsParams) -> str | None:
        if self._pipe is None:
            self._start()
        assert self._pipe is not None
        self._pipe.send(params)
        if not self._pipe.poll(self._seconds * _SLOW_MACHINE):
            raise TimeoutError
        refusal: str | None = self._pipe.recv()
        return refusal

    def _start(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", __name__, str(theirs.fileno()), str(self._seconds)],
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
            )
        self._pipe = Connection(ours.detach())
        self._pipe.send(self._words)
        self._pipe.recv()  # it has read the vocabulary: what follows is the grammar's time

    def _stop(self) -> None:
        if self._pipe is not None:
            self._pipe.close()
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._pipe = self._process = None


def _compile_all(pipe: Connection, seconds: float) -> None:
    """Answer each grammar with None, or with why it is refused, until the pipe closes."""
    from tokenizers import Tokenizer

    words: _Words = pipe.recv()
    backend = Tokenizer.from_str(words.tokenizer)
    grammars = Grammars(SimpleNamespace(backend_tokenizer=backend), words.end_token_ids)
    with suppress(RequestError):  # each grammar will be told
        grammars.load()
    pipe.send(None)
    while True:
        params: StructuredOutputsParams = pipe.recv()
        # The system kills a process that has had its time; it counts in whole seconds.
        limit = math.ceil(time.process_time() + seconds)
        resource.setrlimit(resource.RLIMIT_CPU, (limit, resource.RLIM_INFINITY))
        pipe.send(_refusal(grammars, params, backend.get_vocab_size()))


def _refusal(grammars: Grammars, params: StructuredOutputsParams, vocabulary: int) -> str | None:
    """Compile a grammar and try a few tokens; what is wrong with it."""
    try:
        grammars.check(params)
        grammar = grammars.compile(params)
    except RequestError as error:
        return str(error)
    assert grammar is not None
    dice = Random(0)
    for _ in range(_TRIED):
        allowed = grammar.allowed(vocabulary).nonzero()[0]
        if grammar.failed:
            return (
                "the grammar of the structured output leaves too much open at once, or nothing; "
                "give fewer alternatives or optional properties in one place"
            )
        grammar.accept(int(dice.choice(allowed)))
        if grammar.finished:
            break
    return None


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    os.nice(5)  # the engine's steps come first
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the front decides when it stops
    with Connection(int(sys.argv[1])) as connection:
        try:
            _compile_all(connection, float(sys.argv[2]))
        except (EOFError, OSError):
            sys.exit()
