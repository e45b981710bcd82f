"""2,000 requests of mixed sizes, aborts among them: memory flat, nothing left.

`pytest tests/engine/test_soak.py -s` prints what was seen.
"""

import gc
from pathlib import Path
from random import Random

import pytest

from loopcoder import LLM, SamplingParams
from tests.engine.helpers import check_empty, random_prompt
from tests.small import byte_tokenizer, small_model

REQUESTS, PARTS, AT_ONCE = 2000, 10, 20
# Measured growth after the first part: 0.1 to 2 MiB, Python's own arenas; a leak of 10 KiB a
# request would be 18.
ALLOWED_MIB = 8.0


def _resident_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 2**20


def _prompt(random: Random, shared: list[int]) -> list[int]:
    known = shared[: random.choice([0, 20, 60])]
    return known + random_prompt(random, random.randint(1, 100))


def _params(random: Random) -> SamplingParams:
    return SamplingParams(
        max_tokens=random.randint(1, 24),
        temperature=random.choice([0.0, 0.8]),
        top_p=random.choice([1.0, 0.9]),
        n=random.choice([1, 1, 1, 3]),
        loops=random.randint(1, 4),
        logprobs=random.choice([None, None, 2]),
        prompt_logprobs=random.choice([None, None, None, 0]),
        stop=random.choice([(), ("a", "xy")]),
    )


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads Linux's /proc")
def test_2000_requests_leave_memory_flat(tmp_path: Path) -> None:
    small_model(plt_num_loops=2, head_dim=16).save_pretrained(tmp_path)
    byte_tokenizer().save_pretrained(tmp_path)
    llm = LLM(tmp_path, max_num_seqs=8, kv_cache_memory_bytes=300_000)
    random, resident, aborted = Random(0), [], 0
    shared = random_prompt(random, 60)
    for _ in range(PARTS):
        for _ in range(REQUESTS // PARTS // AT_ONCE):
            streams = [llm.stream(_prompt(random, shared), _params(random)) for _ in range(AT_ONCE)]
            begun = [next(stream) for stream in streams]
            for stream, first in zip(streams, begun, strict=True):
                if random.random() < 0.2:
                    stream.close()
                    aborted += 1
                else:
                    assert [first, *stream][-1].finish_reason in ("stop", "length")
        llm.engine.scheduler.check_integrity()
        gc.collect()
        resident.append(_resident_mib())
    stats = llm.stats()
    print(f"\n{stats}\n{aborted} aborted; resident MiB {[round(x, 1) for x in resident]}")
    assert stats["prefix_tokens_hit"] > 0
    assert stats["preemptions"] > 0
    assert resident[-1] - resident[0] < ALLOWED_MIB
    assert not llm._mail
    check_empty(llm.engine)
