"""vLLM with its engine in this very process, so that a step is one call."""

import json
import os
import time
from pathlib import Path
from typing import Any

from loopcoder.bench.peers.dense import llama_config, matrix_values
from loopcoder.bench.prompts import draw_prompts
from loopcoder.bench.worker import Runner, needed

ADVICE = (
    "install it in an environment of its own (docs/performance.md) and give "
    "--peer-python vllm=PATH or LOOPCODER_PEER_PYTHON_VLLM"
)
_SETTINGS = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_NO_USAGE_STATS": "1",
    "HF_HUB_OFFLINE": "1",
}


def new_runner() -> Runner:
    """The runner, or `NotInstalledError`."""
    os.environ.update(_SETTINGS)
    return VllmRunner(needed("vllm", ADVICE))


class VllmRunner:
    """A dense Llama in bfloat16 with vLLM's defaults, but no prefix cache: nothing is repeated."""

    def __init__(self, vllm: Any) -> None:
        self.vllm = vllm
        self.work: dict[str, Any] = {}

    def load(self, job: dict[str, Any]) -> dict[str, Any]:
        """See `Runner`."""
        directory = Path(job["scratch"]) / "vllm"
        directory.mkdir(exist_ok=True)
        (directory / "config.json").write_text(json.dumps(llama_config(job)), encoding="utf-8")
        os.environ["VLLM_CPU_KVCACHE_SPACE"] = str(_cache_gibibytes(job))
        self.job = job
        self.llm = self.vllm.LLM(
            model=str(directory),
            load_format="dummy",
            skip_tokenizer_init=True,
            dtype="bfloat16",
            max_model_len=job["positions"],
            max_num_seqs=job["sequences"],
            enable_prefix_caching=False,
            disable_log_stats=True,
        )
        return {
            "version": self.vllm.__version__,
            "weight_bytes": 2 * matrix_values(job["config"]),
        }

    def prepare(self, key: str, case: dict[str, Any], work: dict[str, Any]) -> None:
        """See `Runner`."""
        self.work = work
        if work["kind"] != "decode":
            return
        engine, params = self.llm.llm_engine, self._params(self.job["positions"] - work["prompt"])
        for index, prompt in enumerate(draw_prompts(self.job, work, 0)):
            engine.add_request(str(index), {"prompt_token_ids": prompt}, params)
        written: set[str] = set()
        while len(written) < work["sequences"]:
            written |= {output.request_id for output in engine.step()}

    def measure(self, key: str, number: int) -> float:
        """See `Runner`."""
        work = self.work
        if work["kind"] == "decode":
            start = time.perf_counter()
            outputs = self.llm.llm_engine.step()
            seconds = time.perf_counter() - start
            if len(outputs) != work["sequences"]:
                raise RuntimeError(f"a step served {len(outputs)} of {work['sequences']} sequences")
            return seconds
        prompts = [{"prompt_token_ids": ids} for ids in draw_prompts(self.job, work, number)]
        start = time.perf_counter()
        self.llm.generate(prompts, self._params(work["output"]), use_tqdm=False)
        return time.perf_counter() - start

    def _params(self, tokens: int) -> Any:
        return self.vllm.SamplingParams(
            max_tokens=tokens, temperature=0.0, ignore_eos=True, detokenize=False
        )


def _cache_gibibytes(job: dict[str, Any]) -> int:
    """Room for every sequence at its longest, and as much again."""
    config = job["config"]
    values = 2 * config["num_hidden_layers"] * config["num_key_value_heads"] * config["head_dim"]
    return 1 + 2 * 2 * int(values) * int(job["positions"] * job["sequences"]) // 2**30
