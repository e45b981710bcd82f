"""Token ids in the answer, as vLLM has them; all there is for a checkpoint without a tokenizer."""

from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.server.clients import HELLO, MODEL, PROMPT, tokenizer
from tests.server.serving import serving
from tests.small import small_model


def _ask(url: str, path: str, **fields: Any) -> dict[str, Any]:
    response = httpx.post(f"{url}/v1/{path}", json={"temperature": 0, **fields}, timeout=60)
    found: dict[str, Any] = response.raise_for_status().json()["choices"][0]
    return found


@pytest.mark.parametrize("stop", [None, "e"])
def test_ids_are_the_texts(server: Any, stop: str | None) -> None:
    given = {"model": MODEL, "max_tokens": 24, "stop": stop, "return_token_ids": True}
    said = _ask(server.url, "completions", prompt=PROMPT, **given)
    assert tokenizer().decode(said["token_ids"]).startswith(said["text"])
    answer = _ask(server.url, "chat/completions", messages=HELLO, **given)
    assert tokenizer().decode(answer["token_ids"]).startswith(answer["message"]["content"])
    assert "token_ids" not in _ask(server.url, "completions", prompt=PROMPT, max_tokens=1)


def test_a_checkpoint_without_a_tokenizer_speaks_in_ids(tmp_path: Path) -> None:
    small_model(vocab_size=300).save_pretrained(tmp_path)
    with serving(model=str(tmp_path)) as server:
        said = _ask(server.url, "completions", prompt=[1, 2, 3], max_tokens=4, ignore_eos=True)
        assert said["text"] == ""
        assert len(said["token_ids"]) == 4
        seen = _ask(server.url, "completions", prompt=[1, 2, 3], max_tokens=4, loop_lens=2)
        assert [each["token_id"] for each in seen["loop_lens"]] == seen["token_ids"]
        body = {"prompt": "text", "max_tokens": 1}
        assert httpx.post(f"{server.url}/v1/completions", json=body).status_code == 400
