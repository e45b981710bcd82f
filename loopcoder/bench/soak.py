"""A long run of mixed requests, some aborted: does memory stay flat, is anything left behind?"""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from loopcoder.engine.core import Engine
from loopcoder.engine.sequence import Request
from loopcoder.types import SamplingParams

WARM_UP = 0.25  # of the requests; memory is compared from there on
AT_ONCE = 40  # requests queued or running together


def resident_bytes() -> int:
    """Physical memory of this process; 0 where the system does not tell."""
    status = Path("/proc/self/status")
    if not status.exists():
        return 0
    line = next(n for n in status.read_text().splitlines() if n.startswith("VmRSS:"))
    return int(line.split()[1]) * 1024


def soak(
    engine: Engine,
    *,
    requests: int,
    longest: int,
    abort_share: float = 0.1,
    seed: int = 0,
    report: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Serve `requests` requests of 1 to `longest` tokens, mixed in loops, sampling and n.

    Integrity is checked after every step, and at the end that every page can be had again.
    Returns counts, and resident bytes after the warm-up, at the end, and the peak between.
    """
    draw = random.Random(seed)
    started = finished = aborted = step = 0
    live: set[str] = set()
    doomed: dict[str, int] = {}  # request and the step that aborts it
    resident: list[int] = []
    while finished + aborted < requests:
        while started < requests and len(live) < AT_ONCE:
            request = _request(engine, draw, f"soak-{started}", longest)
            engine.add(request)
            live.add(request.request_id)
            if draw.random() < abort_share:
                doomed[request.request_id] = step + draw.randint(0, longest)
            started += 1
        for name in [name for name, when in doomed.items() if when <= step]:
            del doomed[name]
            if name in live:
                live.remove(name)
                engine.abort(name)
                aborted += 1
        for update in engine.step():
            if update.output is not None:
                live.remove(update.request_id)
                finished += 1
        engine.scheduler.check_integrity()
        step += 1
        if finished + aborted >= WARM_UP * requests:
            resident.append(resident_bytes())
        report(f"{finished + aborted} of {requests} requests")
    assert not engine.busy, "requests are over, and the engine still has work"
    pool = engine.scheduler.ledger.pool
    return {
        "requests": requests,
        "finished": finished,
        "aborted": aborted,
        "resident_after_warm_up": resident[0],
        "resident_peak": max(resident),
        "resident_at_end": resident[-1],
        "pages": pool.count,
        "pages_available_at_end": pool.available,
        "stats": engine.stats(),
    }


def _request(engine: Engine, draw: random.Random, name: str, longest: int) -> Request:
    vocabulary = engine.model.config.vocab_size
    own = engine.model.config.plt_num_loops
    length = draw.choice([draw.randint(1, 16), draw.randint(1, longest // 2)])
    shared = [7 * n % vocabulary for n in range(draw.choice([0, length // 2]))]
    tokens = [*shared, *(draw.randrange(vocabulary) for _ in range(length - len(shared)))]
    limit = draw.randint(1, max(1, longest - length))
    params = SamplingParams(
        max_tokens=limit,
        temperature=draw.choice([0.0, 0.8]),
        top_p=draw.choice([1.0, 0.9]),
        n=draw.choice([1, 1, 1, 3]),
        seed=draw.randrange(1000),
        ignore_eos=True,
        loops=1 if own == 1 else draw.choice([1, own, own, own + 1]),
    )
    return Request(
        request_id=name, prompt=None, prompt_token_ids=tokens, params=params, limit=limit
    )
