"""Tokenizers are data, and every token that ends a text is known."""

import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from transformers import PreTrainedTokenizerFast

from loopcoder.checkpoint.tokenizer import chat_end_token_id, end_token_ids, load_tokenizer
from loopcoder.errors import CheckpointError

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def byte_tokenizer(**options: Any) -> PreTrainedTokenizerFast:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(BPE({token: i for i, token in enumerate(alphabet)}, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens(SPECIAL)  # 256, 257, 258
    return PreTrainedTokenizerFast(tokenizer_object=backend, **options)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    byte_tokenizer(eos_token=SPECIAL[0], chat_template=TEMPLATE).save_pretrained(tmp_path)
    return tmp_path


def test_no_tokenizer_is_none(tmp_path: Path) -> None:
    assert load_tokenizer(tmp_path) is None
    assert end_token_ids(tmp_path) == frozenset()


def test_text_round_trip(directory: Path) -> None:
    tokenizer = load_tokenizer(directory)
    assert tokenizer is not None
    assert tokenizer.decode(tokenizer.encode("def f():\n\treturn 'é'")) == "def f():\n\treturn 'é'"


def test_end_tokens_are_the_union_of_what_the_files_say(directory: Path) -> None:
    tokenizer = load_tokenizer(directory)
    assert end_token_ids(directory, tokenizer) == {256, 258}
    (directory / "config.json").write_text('{"eos_token_id": 2}')
    (directory / "generation_config.json").write_text('{"eos_token_id": [75864, 75869]}')
    assert end_token_ids(directory, tokenizer) == {256, 258, 2, 75864, 75869}
    assert end_token_ids(directory, tokenizer, {"eos_token_id": None}) == {256, 258, 75864, 75869}
    assert end_token_ids(directory) == {2, 75864, 75869}
    (directory / "generation_config.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"generation_config.json"):
        end_token_ids(directory)


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        (TEMPLATE, 258),
        (TEMPLATE.replace("<|im_end|>", " <|endoftext|>"), 256),
        (TEMPLATE.replace("<|im_end|>", ""), None),
        ("{{ raise_exception('no') }}", None),
        ("{{ messages[7].content.x.y }}", None),
        ("{% if %}", None),
        ("no message at all", None),
        (None, None),
    ],
)
def test_the_template_tells_its_end_token(template: str | None, expected: int | None) -> None:
    tokenizer = byte_tokenizer(chat_template=template)
    assert chat_end_token_id(tokenizer) == expected


def test_code_of_a_tokenizer_is_never_run(directory: Path) -> None:
    mark = directory / "ran"
    (directory / "tokenization_plt.py").write_text(f"open({str(mark)!r}, 'w')")
    path = directory / "tokenizer_config.json"
    values = json.loads(path.read_text()) | {
        "tokenizer_class": "PLTTokenizer",
        "auto_map": {"AutoTokenizer": ["tokenization_plt.PLTTokenizer", None]},
    }
    path.write_text(json.dumps(values))
    tokenizer = load_tokenizer(directory)
    assert tokenizer is not None
    assert tokenizer.encode("a") == byte_tokenizer().encode("a")
    (directory / "tokenizer.json").rename(directory / "vocab.json")
    (directory / "config.json").write_text('{"model_type": "iquestpltcoder"}')
    with pytest.raises(CheckpointError, match=r"vocab.json"):
        load_tokenizer(directory)
    assert not mark.exists()


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"model": {"type": "BPE"}}'])
def test_a_damaged_tokenizer_is_one_error(directory: Path, text: str) -> None:
    (directory / "tokenizer.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"tokenizer.json cannot be read") as caught:
        load_tokenizer(directory)
    assert "\n" not in str(caught.value)
