"""The same prompts in the engine without a server: `python -m loopcoder.bench.serving.alone JOB`.

JOB is a file with a JSON object; another one is printed. In a process of its own, so that the
benchmark itself needs no torch.
"""

import json
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from loopcoder.bench.engines import describe_place
from loopcoder.engine.llm import LLM
from loopcoder.types import SamplingParams


def answer(job: dict[str, Any]) -> dict[str, Any]:
    """Seconds in which `LLM.generate` answers the prompts, `clients` of them at a time.

    `facts` say where the model runs.
    """
    llm = LLM(
        job["model"],
        loops=job["loops"],
        max_num_seqs=job["clients"],
        num_threads=job["threads"],
    )
    with Path(job["prompts"]).open(encoding="utf-8") as lines:
        prompts = [json.loads(line)["prompt"] for line in lines]
    few = SamplingParams(temperature=0.0, max_tokens=2, ignore_eos=True)
    llm.generate(["def"] * job["clients"], few)
    params = SamplingParams(temperature=0.0, max_tokens=job["tokens"], ignore_eos=True)
    start, worked = time.perf_counter(), time.process_time()
    outputs = llm.generate(prompts, params)
    seconds, processor = time.perf_counter() - start, time.process_time() - worked
    return {
        "requests": len(outputs),
        "tokens": sum(len(output.outputs[0].token_ids) for output in outputs),
        "seconds": seconds,
        "processor": processor,
        "facts": asdict(describe_place(llm.model)),
    }


if __name__ == "__main__":
    result = answer(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
    sys.stdout.write(json.dumps(result) + "\n")
