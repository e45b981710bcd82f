"""From settings to a running server, and back: start, signals, drain."""

import asyncio
import logging
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from types import FrameType
from typing import TYPE_CHECKING, Any

from loopcoder.checkpoint.config_file import read_config
from loopcoder.checkpoint.locate import locate
from loopcoder.errors import RequestError
from loopcoder.model.config import ModelConfig
from loopcoder.model.cost import parameters
from loopcoder.server.engine_client import EngineClient, EngineError, StoppedError
from loopcoder.server.messages import EngineSpec, Vocabulary
from loopcoder.server.settings import ServerSettings

if TYPE_CHECKING:
    from loopcoder.server.grammar_check import GrammarCheck

_SMALL = 300_000_000  # parameters
_log = logging.getLogger("loopcoder.server")


@dataclass(frozen=True, kw_only=True)
class ModelSettings:
    """Which model and how: arguments of `LLM`; `engine` are those of `EngineSettings`."""

    model: str = "loopcoder-nano"
    dtype: str = "auto"
    quantization: str | None = None
    device: str = "auto"
    max_model_len: int | None = None
    loops: int | None = None
    threads: int | None = None
    engine: dict[str, Any] = field(default_factory=dict)


def serve(model: ModelSettings, settings: ServerSettings) -> None:
    """Serve until a signal says stop. Blocks.

    Raises `LoopCoderError` for what the user can mend; nothing listens then. Raises `EngineError`
    where the engine ends while serving.
    """
    _require("fastapi", "prometheus_client", "uvicorn")
    without_torch()
    directory = locate(model.model)
    config = read_config(directory)
    listening = _bind(settings)
    # The engine loads in its own process while this one imports what it needs.
    client = EngineClient(
        EngineSpec(
            directory=str(directory),
            dtype=model.dtype,
            quantization=model.quantization,
            device=model.device,
            threads=model.threads or _threads(config),
            settings=model.engine,
        )
    )
    stack = ExitStack()
    try:
        from loopcoder.checkpoint.tokenizer import end_token_ids, load_tokenizer
        from loopcoder.engine.prompts import PromptReader
        from loopcoder.server.app import create_app
        from loopcoder.server.front import Front
        from loopcoder.server.metrics import Metrics

        tokenizer = load_tokenizer(directory)
        reader = PromptReader(
            config, tokenizer, max_model_len=model.max_model_len, loops=model.loops
        )
        words = Vocabulary(
            tokenizer=_tokenizer_text(tokenizer),
            end_token_ids=end_token_ids(directory, tokenizer),
            max_model_len=reader.max_model_len,
            loops=reader.loops,
        )
        slots = model.engine.get("max_num_seqs", 16)
        facts = client.ready(words, slots=slots, queue=settings.max_queue)
        front = Front(
            name=settings.served_model_name or model.model,
            settings=settings,
            reader=reader,
            client=client,
            facts=facts,
            metrics=Metrics(lambda: client.stats, lambda: client.outstanding),
            grammars=stack.enter_context(_grammar_check(words)),
        )
        asyncio.run(_run(front, create_app(front), listening))
    finally:
        stack.close()
        client.close()
        listening.close()


def _threads(config: ModelConfig) -> int:
    """One a core; a small model, whose steps are short, leaves a core to the front.

    Threads that wait for each other at the end of each product would fight with the front for it:
    on 2 cores nano then streams 0.74 of what the engine does alone, and 0.91 this way.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    small = parameters(config).total < _SMALL
    return max(1, (cores or 1) - small)


def _require(*libraries: str) -> None:
    missing = [name for name in libraries if find_spec(name) is None]
    if missing:
        raise RequestError(
            f"the server needs {', '.join(missing)}; install with pip install 'loopcoder[serve]'"
        )


def without_torch() -> None:
    """Keep torch out of a process that does no mathematics, if it is not there already.

    `transformers` would load it for nothing: two seconds of processor time and 160 MB.
    """
    sys.modules.setdefault("torch", None)  # type: ignore[arg-type]  # Python's own way to block


def _tokenizer_text(tokenizer: Any) -> str | None:
    if tokenizer is None:
        return None
    text: str = tokenizer.backend_tokenizer.to_str()
    return text


@contextmanager
def _grammar_check(words: Vocabulary) -> Iterator["GrammarCheck | None"]:
    """What compiles grammars for a vocabulary; None where there is none."""
    if words.tokenizer is None:
        yield None
        return
    from loopcoder.server.grammar_check import GrammarCheck

    with closing(GrammarCheck(words.tokenizer, words.end_token_ids)) as check:
        yield check


def _bind(settings: ServerSettings) -> socket.socket:
    """The listening socket, taken before anything is loaded."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listening = socket.socket(family, kind, protocol)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(2048)
    except OSError as error:
        raise RequestError(
            f"{settings.host}:{settings.port} cannot be listened on ({error.strerror or error}); "
            "choose another --host or --port, or stop what runs there"
        ) from error
    return listening


async def _run(front: Any, app: Any, listening: socket.socket) -> None:
    import uvicorn

    class Server(uvicorn.Server):
        """Drains at the first signal, stops at the second."""

        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            """A signal came; the event loop decides what it means."""
            loop.call_soon_threadsafe(drain)

    def drain() -> None:
        if front.stopping:
            server.force_exit = server.should_exit = True
            return
        front.stopping = True
        tasks.append(loop.create_task(_drain(front, server)))

    def died() -> None:
        server.should_exit = True

    loop = asyncio.get_running_loop()
    tasks: list[asyncio.Task[None]] = []
    server = Server(
        uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            lifespan="off",
            server_header=False,
            timeout_graceful_shutdown=0.1,  # type: ignore[arg-type]  # seconds, passed to wait_for
        )
    )
    front.client.on_death = died
    front.client.listen()
    host, port = listening.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    if not (front.settings.loopback or front.settings.api_keys):
        _log.warning("warning: anyone who reaches %s may use this server (no --api-key)", host)
    _log.info("%s at http://%s:%s (Ctrl-C stops)", front.name, shown, port)
    await server.serve(sockets=[listening])
    for task in tasks:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
    status = front.client.process.poll()
    if status is not None:
        raise EngineError(f"the engine process ended with status {status}")


async def _drain(front: Any, server: Any) -> None:
    """Let what runs finish, for so long; then tell the rest."""
    seconds = front.settings.drain_timeout
    _log.info("stopping: %d sequences have %g s to finish", front.client.outstanding, seconds)
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    while front.client.unread and loop.time() < deadline:
        await asyncio.sleep(0.02)
    front.client.stop_all(StoppedError("the server is shutting down"))
    server.should_exit = True
