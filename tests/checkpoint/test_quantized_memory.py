"""Quantising while loading holds the result and one float matrix: peak memory in a new process."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from loopcoder.checkpoint.init import init_checkpoint
from loopcoder.model.config import ModelConfig
from loopcoder.model.cost import parameters
from tests.checkpoint.conftest import SMALL

# 172 M parameters, 343 MB in bfloat16; the largest matrices, head and embedding, have 33 MB.
CONFIG = ModelConfig(
    vocab_size=16000,
    hidden_size=1024,
    intermediate_size=8192,
    num_hidden_layers=5,
    num_attention_heads=8,
    num_key_value_heads=2,
    head_dim=128,
)
LARGEST = 2 * CONFIG.vocab_size * CONFIG.hidden_size
# Packing a group takes three times its quantised bytes, and blocks of rows are floats meanwhile.
WORKING = 40e6

MEASURE = """
import json, re, sys, torch
torch.set_num_threads(1)
from loopcoder.checkpoint.load import load_model
from loopcoder.model.products import products

def status(key):
    return 1024 * int(re.search(key + r":\\s+(\\d+)", open("/proc/self/status").read())[1])

load_model(sys.argv[2], quantization=sys.argv[3])  # imports that torch puts off, the library
before = status("VmRSS")
model = load_model(sys.argv[1], quantization=sys.argv[4])
peak = status("VmHWM") - before
held = sum(p.nbytes for p in model.parameters())
held += sum(product.nbytes for product in products(model).values())
print(json.dumps({"peak": peak, "held": held}))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_peak_memory_is_the_quantised_model_and_one_matrix(tmp_path: Path) -> None:
    large = init_checkpoint(tmp_path / "large", CONFIG, shard_size="100MB")
    small = init_checkpoint(tmp_path / "small", SMALL)
    figures = {}
    for name in ("int8", "int4"):
        command = [sys.executable, "-c", MEASURE, str(large), str(small), name, name]
        result = subprocess.run(command, capture_output=True, text=True, check=True)
        figures[name] = json.loads(result.stdout)
        print(name, figures[name])  # shown by -s
    total = 2 * parameters(CONFIG).total
    assert figures["int8"]["held"] < 0.57 * total
    assert figures["int4"]["held"] < 0.38 * total
    for figure in figures.values():
        assert figure["peak"] < 1.05 * figure["held"] + LARGEST + WORKING
