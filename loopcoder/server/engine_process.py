"""The engine process: requests in through a pipe, tokens out, a message a step.

Started as `python -m loopcoder.server.engine_process FD` with the pipe's file descriptor. It ends
when the pipe closes, so it never outlives the front.
"""

import logging
import queue
import sys
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from multiprocessing.connection import Connection
from types import SimpleNamespace
from typing import Any, NamedTuple

from loopcoder.engine.build import EngineSettings, build_engine
from loopcoder.engine.core import Engine, Update
from loopcoder.engine.grammar import Grammar, Grammars
from loopcoder.errors import LoopCoderError, RequestError
from loopcoder.records import resident_bytes
from loopcoder.server.messages import (
    Abort,
    Add,
    End,
    EngineSpec,
    Failed,
    Ready,
    Refused,
    Step,
    Token,
    Vocabulary,
)
from loopcoder.types import RequestOutput

_STATS_EVERY = 0.25
_log = logging.getLogger("loopcoder.engine")


def main(pipe: Connection) -> None:
    """Build what the first message describes, then serve until the pipe closes."""
    try:
        engine = _build(pipe)
    except EOFError:
        return
    except LoopCoderError as error:
        pipe.send(Failed(str(error), user=True))
        return
    except Exception as error:
        _log.exception("the engine cannot be built")
        pipe.send(Failed(f"{type(error).__name__}: {error}", user=False))
        return
    _serve(engine, pipe)


def _build(pipe: Connection) -> Engine:
    """The engine, with as little imported as will do: this is most of the server's start."""
    import torch

    from loopcoder.checkpoint.load import load_model
    from loopcoder.engine.device import usable_device
    from loopcoder.model.products import fuse

    spec: EngineSpec = pipe.recv()
    settings = EngineSettings(**spec.settings)
    if spec.threads is not None:
        torch.set_num_threads(spec.threads)
    model = load_model(
        spec.directory,
        dtype=spec.dtype,
        device=usable_device(spec.device),
        quantization=spec.quantization,
    )
    fuse(model)
    words: Vocabulary = pipe.recv()
    engine = build_engine(
        model,
        settings,
        max_model_len=words.max_model_len,
        loops=words.loops,
        end_token_ids=words.end_token_ids,
        tokenizer=None if words.tokenizer is None else _tokenizer(words.tokenizer),
    )
    pipe.send(Ready({"dtype": str(model.model.norm.weight.dtype).removeprefix("torch.")}))
    return engine


def _tokenizer(text: str) -> Any:
    """What `TokenTexts` and the grammars need of a tokenizer."""
    from tokenizers import Tokenizer

    return SimpleNamespace(backend_tokenizer=Tokenizer.from_str(text))


class _Compiled(NamedTuple):
    """A request whose grammar has been compiled, or could not be."""

    add: Add
    grammar: Grammar | RequestError | None


Inbox = queue.SimpleQueue[Add | Abort | _Compiled | None]


def _serve(engine: Engine, pipe: Connection) -> None:
    """Step while there is work; between two steps, read what the front has said."""
    inbox: Inbox = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(pipe, inbox, engine.grammars), daemon=True).start()
    reported = 0.0
    pipe.send(Step([], _stats(engine)))  # counters are there before the first request
    while True:
        while not (inbox.empty() and engine.busy):
            message = inbox.get()
            if message is None:
                return
            refusal = _take(engine, message)
            if refusal is not None:
                pipe.send(refusal)
            if inbox.empty() and not engine.busy:
                pipe.send(Step([], _stats(engine)))
        tokens = _step(engine)
        due = time.monotonic() - reported > _STATS_EVERY or not engine.busy
        if due:
            reported = time.monotonic()
        if tokens or due:
            pipe.send(Step(tokens, _stats(engine) if due else None))


def _listen(pipe: Connection, inbox: Inbox, grammars: Grammars) -> None:
    """Put what comes into the inbox; grammars are compiled first, while steps go on."""
    compiler = ThreadPoolExecutor(1)
    latest: Future[Any] = compiler.submit(grammars.load)
    try:
        while True:
            message: Add | Abort = pipe.recv()
            if isinstance(message, Abort):
                inbox.put(message)
                if not latest.done():  # its request may be among those that are not in yet
                    compiler.submit(inbox.put, message)
            elif message.request.params.structured_outputs is None:
                inbox.put(message)
            else:
                latest = compiler.submit(_compile, message, inbox, grammars)
    except (EOFError, OSError):
        inbox.put(None)


def _compile(message: Add, inbox: Inbox, grammars: Grammars) -> None:
    grammar: Grammar | RequestError | None
    try:
        grammar = grammars.compile(message.request.params.structured_outputs)
    except RequestError as error:
        grammar = error
    except BaseException:  # a panic of the library's is no Exception, and the client still waits
        _log.exception("a grammar could not be compiled")
        grammar = RequestError("the grammar of the structured output could not be compiled")
    inbox.put(_Compiled(message, grammar))


def _take(engine: Engine, message: Add | Abort | _Compiled) -> Refused | None:
    if isinstance(message, Abort):
        engine.abort(message.request_id)
        return None
    add, grammar = message if isinstance(message, _Compiled) else (message, None)
    try:
        if isinstance(grammar, RequestError):
            raise grammar
        engine.add(add.request, grammar)
    except RequestError as error:
        return Refused(add.request.request_id, str(error))
    return None


def _step(engine: Engine) -> list[Token]:
    try:
        return [_token(update) for update in engine.step()]
    except Exception:
        # A step that failed may fail again: what took part in it ends, what waits gets its turn.
        _log.exception("a step failed; the requests in it end with an error")
        return _end_all(engine)


def _end_all(engine: Engine) -> list[Token]:
    scheduler = engine.scheduler
    names = {s.name[0] for s in (*scheduler.running, *scheduler.waiting) if s.times.admitted}
    ended = [(name, engine.abort(name)) for name in names]
    scheduler.distrust()
    return [
        Token(name, each.index, None, "", "error", None, None, None, _end(output))
        for name, output in ended
        if output is not None
        for each in output.outputs
    ]


def _token(update: Update) -> Token:
    event, times = update.event, update.times
    end = None
    if update.output is not None:
        end = _end(update.output, times.arrived, times.admitted)
    if event is None:
        return Token(update.request_id, update.index, None, "", "error", None, None, None, end)
    return Token(
        update.request_id,
        event.index,
        event.token_id,
        event.text,
        event.finish_reason,
        event.stop_reason,
        event.logprobs,
        event.loop_lens,
        end,
    )


def _end(output: RequestOutput, arrived: float = 0.0, admitted: float | None = None) -> End:
    return End(output.prompt_logprobs, output.num_cached_tokens, arrived, admitted)


def _stats(engine: Engine) -> dict[str, Any]:
    return {**engine.stats(), "engine_rss_bytes": resident_bytes()}


if __name__ == "__main__":
    logging.basicConfig(format="%(levelname)s %(name)s: %(message)s")
    with Connection(int(sys.argv[1])) as connection:
        main(connection)
