"""llama.cpp through `llama-cpp-python`, at the level of `llama_decode`."""

import ctypes
import time
from pathlib import Path
from typing import Any

from loopcoder.bench.peers.gguf_file import write_gguf
from loopcoder.bench.plan import PEER_FORMATS
from loopcoder.bench.prompts import draw_prompts
from loopcoder.bench.worker import Runner, needed

ADVICE = (
    "pip install llama-cpp-python gguf (here, or in another environment with "
    "--peer-python llama.cpp=PATH or LOOPCODER_PEER_PYTHON_LLAMA_CPP)"
)
_READ_AT_ONCE = 2048  # tokens in a batch, llama.cpp's own default


def new_runner() -> Runner:
    """The runner, or `NotInstalledError`."""
    needed("gguf", ADVICE)
    return LlamaCppRunner(needed("llama_cpp", ADVICE))


class LlamaCppRunner:
    """A dense Llama in bf16, Q8_0 or Q4_K_M."""

    def __init__(self, llama: Any) -> None:
        self.llama = llama
        self.work: dict[str, Any] = {}
        self.position = 0
        self.tokens: list[int] = []

    def load(self, job: dict[str, Any]) -> dict[str, Any]:
        """See `Runner`."""
        form = PEER_FORMATS["llama.cpp"][job["quantization"]]
        path = Path(job["scratch"]) / f"{form}.gguf"
        if not path.exists():
            write_gguf(path, job["config"], form, self._quantize)
        llama = self.llama
        params = llama.llama_model_default_params()
        self.model = llama.llama_model_load_from_file(str(path).encode(), params)
        if not self.model:
            raise RuntimeError(f"llama.cpp cannot load the {form} model that was written for it")
        self.job = job
        self.context = llama.llama_init_from_model(self.model, self._context_params(job))
        self.batch = llama.llama_batch_init(_READ_AT_ONCE, 0, 1)
        return {"version": llama.__version__, "weight_bytes": _matrix_bytes(path, job["config"])}

    def _context_params(self, job: dict[str, Any]) -> Any:
        params = self.llama.llama_context_default_params()
        params.n_ctx = job["positions"] * job["sequences"]
        params.n_seq_max = job["sequences"]
        params.n_batch = _READ_AT_ONCE
        params.n_threads = params.n_threads_batch = job["threads"]
        return params

    def _quantize(self, source: Path, target: Path, file_type: int) -> None:
        params = self.llama.llama_model_quantize_default_params()
        params.ftype = file_type
        failed = self.llama.llama_model_quantize(
            str(source).encode(), str(target).encode(), ctypes.byref(params)
        )
        if failed:
            raise RuntimeError(f"llama.cpp's quantiser failed with status {failed}")

    def prepare(self, key: str, case: dict[str, Any], work: dict[str, Any]) -> None:
        """See `Runner`."""
        self.work = work
        if work["kind"] == "decode":
            self._read(draw_prompts(self.job, work, 0))

    def measure(self, key: str, number: int) -> float:
        """See `Runner`."""
        work = self.work
        prompts = [] if work["kind"] == "decode" else draw_prompts(self.job, work, number)
        start = time.perf_counter()
        if work["kind"] == "decode":
            self._write()
        else:
            self._read(prompts)
            for _ in range(work["output"] - 1):
                self._write()
        return time.perf_counter() - start

    def _read(self, prompts: list[list[int]]) -> None:
        """Forget everything, then take in the prompts, one sequence after another."""
        self.llama.llama_memory_clear(self.llama.llama_get_memory(self.context), True)
        self.tokens, self.position = [], len(prompts[0])
        for sequence, prompt in enumerate(prompts):
            for start in range(0, len(prompt), _READ_AT_ONCE):
                piece = prompt[start : start + _READ_AT_ONCE]
                rows = [(token, start + i, sequence) for i, token in enumerate(piece)]
                logits_V = self._decode(rows, [len(piece) - 1])
            self.tokens += logits_V

    def _write(self) -> None:
        """One token more for every sequence."""
        rows = [(token, self.position, sequence) for sequence, token in enumerate(self.tokens)]
        self.tokens = self._decode(rows, range(len(rows)))
        self.position += 1

    def _decode(self, rows: list[tuple[int, int, int]], wanted: Any) -> list[int]:
        """Run rows of (token, position, sequence); the best next token of each wanted row."""
        import numpy as np

        batch = self.batch
        batch.n_tokens = len(rows)
        for i, (token, position, sequence) in enumerate(rows):
            batch.token[i], batch.pos[i] = token, position
            batch.n_seq_id[i], batch.seq_id[i][0] = 1, sequence
            batch.logits[i] = i in wanted
        status = self.llama.llama_decode(self.context, batch)
        if status:
            raise RuntimeError(f"llama_decode ended with status {status}")
        shape = (self.job["config"]["vocab_size"],)
        return [
            int(
                np.ctypeslib.as_array(
                    self.llama.llama_get_logits_ith(self.context, i), shape=shape
                ).argmax()
            )
            for i in wanted
        ]


def _matrix_bytes(path: Path, config: dict[str, Any]) -> int:
    """Bytes of the matrices that a decode step reads; an embedding only where it is the head."""
    from gguf import GGUFReader

    head = "token_embd.weight" if config["tie_word_embeddings"] else "output.weight"
    return sum(
        int(tensor.n_bytes)
        for tensor in GGUFReader(path).tensors
        if len(tensor.shape) == 2 and (tensor.name.startswith("blk.") or tensor.name == head)
    )
