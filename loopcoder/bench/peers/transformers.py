"""transformers' `LlamaForCausalLM`, as its users run it: SDPA attention and a `DynamicCache`."""

import time
from typing import Any

from loopcoder.bench.peers.dense import llama_config, matrix_values
from loopcoder.bench.prompts import draw_prompts
from loopcoder.bench.worker import Runner, needed


def new_runner() -> Runner:
    """The runner, or `NotInstalledError`."""
    advice = "pip install transformers torch==2.13.0"
    return TransformersRunner(needed("torch", advice), needed("transformers", advice))


class TransformersRunner:
    """A dense Llama in bfloat16."""

    def __init__(self, torch: Any, transformers: Any) -> None:
        self.torch, self.transformers = torch, transformers
        self.cases: dict[str, _Prepared] = {}

    def load(self, job: dict[str, Any]) -> dict[str, Any]:
        """See `Runner`."""
        from loopcoder.bench.fill import materialise

        torch, llama = self.torch, self.transformers.models.llama.modeling_llama
        torch.set_num_threads(job["threads"])
        self.device = "cpu" if not torch.cuda.is_available() else "cuda"
        if job["device"] != "auto":
            self.device = job["device"]
        torch.set_grad_enabled(False)
        config = self.transformers.LlamaConfig(**llama_config(job))
        with torch.device("meta"):
            model = llama.LlamaForCausalLM(config).to(torch.bfloat16)
        materialise(model, torch.device(self.device))
        # Its angles are a buffer that no checkpoint holds: computed, not filled in.
        model.model.rotary_emb = llama.LlamaRotaryEmbedding(config).to(self.device)
        self.job, self.model = job, model.eval()
        return {
            "version": self.transformers.__version__,
            "weight_bytes": 2 * matrix_values(job["config"]),
        }

    def prepare(self, key: str, case: dict[str, Any], work: dict[str, Any]) -> None:
        """See `Runner`."""
        self.cases[key] = prepared = _Prepared(work)
        if work["kind"] == "decode":
            prepared.token_BT, prepared.past = self._read(self._prompts(work, 0), {})

    def measure(self, key: str, number: int) -> float:
        """See `Runner`."""
        prepared = self.cases[key]
        work = prepared.work
        prompt_BT = None if work["kind"] == "decode" else self._prompts(work, number)
        start = time.perf_counter()
        if work["kind"] == "decode":
            prepared.token_BT, prepared.past = self._read(prepared.token_BT, prepared.past)
        elif work["kind"] == "prefill":
            self._read(prompt_BT, {})
        else:
            self.model.generate(
                prompt_BT,
                attention_mask=self.torch.ones_like(prompt_BT),
                do_sample=False,
                eos_token_id=None,
                max_new_tokens=work["output"],
                pad_token_id=0,
            )
        return time.perf_counter() - start

    def _read(self, token_BT: Any, past: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        """One forward pass: the next token of each sequence, and the cache as an argument.

        Its name is the output's: `past_key_values`, and `cache` from transformers 5.24 on.
        """
        out = self.model(token_BT, use_cache=True, logits_to_keep=1, **past)
        token_BT = out.logits[:, -1:].argmax(-1)
        token_BT[0].item()  # waits for the device
        return token_BT, {name: value for name, value in out.items() if name != "logits"}

    def _prompts(self, work: dict[str, Any], number: int) -> Any:
        return self.torch.tensor(draw_prompts(self.job, work, number), device=self.device)


class _Prepared:
    """A case between measurements."""

    def __init__(self, work: dict[str, Any]) -> None:
        self.work = work
        self.token_BT: Any = None
        self.past: dict[str, Any] = {}
