"""`loopcoder bench serve` from start to the object that it prints. No torch here."""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from loopcoder.bench.plan import Case as LoopCase
from loopcoder.bench.run import check_cases
from loopcoder.bench.serving.checkpoints import (
    checkpoint_bytes,
    dense_checkpoint,
    served_checkpoint,
)
from loopcoder.bench.serving.plan import Client, Plan, check_plan
from loopcoder.bench.serving.rounds import Tools, Turns
from loopcoder.bench.serving.servers import our_server, peer_server
from loopcoder.bench.serving.summary import ratios, rows
from loopcoder.bench.target import Target
from loopcoder.errors import RequestError, file_errors
from loopcoder.home import cache_home
from loopcoder.records import machine


def measure_serving(
    target: Target,
    plan: Plan,
    *,
    loops: Sequence[int],
    peers: Sequence[str],
    pythons: Mapping[str, str],
    client: Client,
    client_python: str,
    threads: int,
    report: Callable[[str], None],
) -> dict[str, Any]:
    """Servers of the model and of its dense peers under the same loads, in turns.

    Raises `RequestError` for what the model or the load generator cannot do, `WorkerError` where
    our server or the load generator fails.
    """
    check_cases(target, [LoopCase(loops=count) for count in loops])
    check_plan(plan, target.config.max_position_embeddings, target.name)
    client.check(plan.streams, peers)
    with tempfile.TemporaryDirectory(dir=_scratch_root(), prefix="bench-serve-") as name:
        scratch = Path(name)
        directory = served_checkpoint(target, scratch)
        specs = [our_server(directory, plan, loops=n, threads=threads) for n in loops]
        if peers:
            dense = dense_checkpoint(directory, target, scratch)
            specs += [
                peer_server(peer, pythons.get(peer), dense, plan, threads=threads) for peer in peers
            ]
        tools = Tools(
            client=client, python=client_python, scratch=scratch, threads=threads, report=report
        )
        turns = Turns(specs, directory, checkpoint_bytes(directory), plan, tools)
        turns.run()
    return _result(target, plan, turns, client, threads)


def _result(
    target: Target, plan: Plan, turns: Turns, client: Client, threads: int
) -> dict[str, Any]:
    facts = turns.alone[0].facts
    return {
        "machine": {
            **machine(),
            "threads": threads,
            **facts["machine"],
            "kernels": {facts["dtype"]: facts["kernels"]},
            "client": client.name,
            "turns": "interleaved" if turns.together else "one server started at a time",
        },
        "model": {**target.record(facts["dtype"]), "prompt": plan.prompt},
        "rows": rows(turns.measured, plan),
        "ratios": ratios(turns.measured),
    }


def _scratch_root() -> Path:
    """Checkpoints go to the cache directory: a temporary one may be memory."""
    home = cache_home()
    with file_errors(RequestError, "set LOOPCODER_HOME to a directory that can be written"):
        home.mkdir(parents=True, exist_ok=True)
    return home
