"""Loading holds no second copy of the weights: peak resident memory, measured in a new process."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from loopcoder.checkpoint.init import init_checkpoint
from loopcoder.model.config import ModelConfig
from loopcoder.model.shapes import tensor_shapes
from tests.checkpoint.conftest import SMALL

# About 118 M parameters: 472 MB in float32, 236 MB in bfloat16.
CONFIG = ModelConfig(
    vocab_size=16000,
    hidden_size=1024,
    intermediate_size=4096,
    num_hidden_layers=6,
    num_attention_heads=8,
    num_key_value_heads=2,
    head_dim=128,
)

MEASURE = """
import json, re, sys, torch
torch.set_num_threads(2)
if sys.argv[4] == "loopcoder":
    from loopcoder.checkpoint.load import load_model
else:
    import loopcoder.hf, transformers
    transformers.utils.logging.disable_progress_bar()
    load_model = transformers.AutoModelForCausalLM.from_pretrained

def status(key):
    return 1024 * int(re.search(key + r":\\s+(\\d+)", open("/proc/self/status").read())[1])

load_model(sys.argv[3], dtype=sys.argv[2])  # imports that torch puts off, the thread pool
before = status("VmRSS")
model = load_model(sys.argv[1], dtype=sys.argv[2])
weights = sum(p.nbytes for p in model.parameters())
peak = status("VmHWM") - before
print(json.dumps({"peak": peak, "weights": weights, "dtype": str(model.lm_head.weight.dtype)}))
"""


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("memory")
    large = {
        dtype: init_checkpoint(root / dtype, CONFIG, dtype=dtype, shard_size="100MB")
        for dtype in ("float32", "bfloat16")
    }
    return large | {"small": init_checkpoint(root / "small", SMALL, dtype="float32")}


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(
    ("stored", "wanted"),
    [
        ("float32", "auto"),
        ("bfloat16", "auto"),
        ("bfloat16", "float32"),
        ("float32", "bfloat16"),
    ],
)
@pytest.mark.parametrize("loader", ["loopcoder", "transformers"])
def test_peak_memory_is_the_weights_and_little_more(
    checkpoints: dict[str, Path], loader: str, stored: str, wanted: str
) -> None:
    paths = [str(checkpoints[name]) for name in (stored, "small")]
    command = [sys.executable, "-c", MEASURE, paths[0], wanted, paths[1], loader]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    figures = json.loads(result.stdout)
    kept = stored if wanted == "auto" else wanted
    size = {"float32": 4, "bfloat16": 2}[kept]
    values = sum(_count(shape) for shape in tensor_shapes(CONFIG).values())
    assert figures["dtype"] == f"torch.{kept}"
    assert figures["weights"] == size * values
    print(f"{stored} as {wanted}: {figures['peak'] / figures['weights']:.3f}")  # shown by -s
    assert figures["peak"] < 1.1 * figures["weights"], figures


def _count(shape: tuple[int, ...]) -> int:
    count = 1
    for side in shape:
        count *= side
    return count
