"""Structured outputs: a text that ended fits its schema, whatever the model and its neighbours."""

import json
import re
from typing import Any

import jsonschema
import pytest
import torch

from loopcoder import LLM, SamplingParams
from loopcoder.engine import grammar as module
from loopcoder.engine.core import Engine
from loopcoder.errors import RequestError
from loopcoder.types import CompletionOutput, StructuredOutputsParams
from tests.engine.grammars import END, SCHEMAS, TOKENIZER
from tests.engine.helpers import ask, check_empty, finish, small_engine, small_plt


@pytest.fixture(scope="module")
def nano() -> LLM:
    return LLM("loopcoder-nano", num_threads=1, max_num_seqs=16)


@pytest.fixture(scope="module")
def model() -> Any:
    return small_plt(torch.float32)


def _engine(model: Any, **arguments: Any) -> Engine:
    settled = {"tokenizer": TOKENIZER, "end_token_ids": [END], **arguments}
    return small_engine(model, **settled)


def _outputs(engine: Engine, *requests: Any) -> list[list[CompletionOutput]]:
    found = finish(engine, requests)
    return [found[request.request_id].outputs for request in requests]


def _ask(name: object, structured: StructuredOutputsParams | None, **params: Any) -> Any:
    settled = {"max_tokens": 200, "temperature": 1.0, "seed": 0, "ignore_eos": False, **params}
    return ask(name, [7, 8, 9], structured_outputs=structured, **settled)


def _check_json(output: CompletionOutput, schema: Any) -> bool:
    """Whether it ended; if so it parses and fits, and if not it ran into the limit."""
    assert output.text is not None
    if output.finish_reason == "length":
        return False
    assert output.finish_reason == "stop"
    assert output.stop_reason is None
    jsonschema.validate(json.loads(output.text), schema)
    return True


@pytest.mark.parametrize("name", SCHEMAS)
def test_random_weights_write_json_of_the_schema(name: str, model: Any) -> None:
    schema = SCHEMAS[name]
    wanted = StructuredOutputsParams(json=schema)
    requests = [_ask(seed, wanted, n=2, seed=seed) for seed in range(4)]
    outputs = [each for answer in _outputs(_engine(model), *requests) for each in answer]
    assert sum(_check_json(output, schema) for output in outputs) >= 6, "few came to an end"
    if name not in ("pattern", "format"):  # alike by their form
        assert len({output.text for output in outputs}) > 1, "continuations must differ"


@pytest.mark.parametrize("name", SCHEMAS)
def test_nano_writes_json_of_the_schema(name: str, nano: LLM) -> None:
    schema = SCHEMAS[name]
    params = SamplingParams(
        max_tokens=200, n=4, seed=3, structured_outputs=StructuredOutputsParams(json=schema)
    )
    first, again = nano.generate(["print(", "print("], params)
    assert sum(_check_json(output, schema) for output in first.outputs) >= 3
    assert [o.token_ids for o in first.outputs] == [o.token_ids for o in again.outputs]


def test_open_json_parses_where_it_ends(nano: LLM) -> None:
    """Nothing bounds these: strings, objects and numbers of any length."""
    wanted = StructuredOutputsParams(json_object=True)
    params = SamplingParams(
        max_tokens=120, n=12, temperature=1.3, seed=1, structured_outputs=wanted
    )
    outputs = nano.generate(["data = "], params)[0].outputs
    ended = [o for o in outputs if o.finish_reason == "stop"]
    assert len(ended) >= 3
    assert all(isinstance(json.loads(o.text or ""), dict) for o in ended)


def test_the_text_ends_with_the_token_that_completes_it(model: Any) -> None:
    (outputs,) = _outputs(_engine(model), _ask(0, StructuredOutputsParams(regex="[ab]{5}"), n=3))
    for output in outputs:
        assert re.fullmatch("[ab]{5}", output.text or "")
        assert (len(output.token_ids), output.finish_reason) == (5, "stop")


def test_without_end_tokens_a_complete_text_ends(model: Any) -> None:
    engine = _engine(model, end_token_ids=())
    wanted = StructuredOutputsParams(json=SCHEMAS["types"])
    (outputs,) = _outputs(engine, _ask(0, wanted))
    assert _check_json(outputs[0], SCHEMAS["types"])


@pytest.mark.parametrize(
    ("params", "least", "most", "reason"),
    [
        ({"min_tokens": 9, "max_tokens": 12}, 9, 12, None),
        ({"ignore_eos": True, "max_tokens": 12}, 12, 12, "length"),
        ({"logit_bias": {END: 100}, "max_tokens": 12}, 2, 2, "stop"),  # a letter, the end
        ({"logit_bias": {END: 100}, "min_tokens": 4, "max_tokens": 12}, 5, 5, "stop"),
    ],
    ids=str,
)
def test_where_an_open_end_comes(
    params: dict[str, Any], least: int, most: int, reason: str | None, model: Any
) -> None:
    wanted = StructuredOutputsParams(regex="[ab]+")
    for output in _outputs(_engine(model), _ask(0, wanted, n=3, **params))[0]:
        assert re.fullmatch("[ab]+", output.text or "")
        assert least <= len(output.token_ids) <= most
        assert reason in (None, output.finish_reason)


@pytest.mark.parametrize("ignore_eos", [False, True])
def test_min_tokens_yields_to_a_grammar_that_leaves_nothing_else(
    model: Any, ignore_eos: bool
) -> None:
    wanted = StructuredOutputsParams(regex="a{3}")
    request = _ask(0, wanted, min_tokens=20, ignore_eos=ignore_eos, stop_token_ids=[64])
    (output,) = _outputs(_engine(model), request)[0]
    assert (output.text, output.finish_reason) == ("aaa", "stop")


def test_an_empty_text_is_an_end_token(model: Any) -> None:
    wanted = StructuredOutputsParams(regex="")
    (output,) = _outputs(_engine(model), _ask(0, wanted, min_tokens=5))[0]
    assert (output.text, output.token_ids, output.finish_reason) == ("", [END], "stop")


def test_a_stop_string_still_cuts(model: Any) -> None:
    wanted = StructuredOutputsParams(json=SCHEMAS["types"])
    (output,) = _outputs(_engine(model), _ask(0, wanted, stop=['"b"']))[0]
    assert (output.finish_reason, output.stop_reason) == ("stop", '"b"')
    assert re.fullmatch(r'\{"s": ?"[^"]*(\\"[^"]*)*", ?', output.text or "")


def test_bias_and_penalties_move_within_the_grammar(model: Any) -> None:
    a, b, z = TOKENIZER("abz")["input_ids"]
    wanted = StructuredOutputsParams(regex="[ab]{6}")
    biased = _ask(0, wanted, logit_bias={z: 100, a: 90, b: -100})
    penalised = _ask(
        1, wanted, temperature=0.0, repetition_penalty=1000, presence_penalty=2, logit_bias={z: 100}
    )
    first, second = _outputs(_engine(model), biased, penalised)
    assert first[0].text == "aaaaaa"
    assert set(second[0].text or "") == {"a", "b"}


def test_preempted_texts_go_on_in_their_grammar(model: Any) -> None:
    wanted = StructuredOutputsParams(json=SCHEMAS["types"])
    requests = [_ask(i, wanted if i % 2 else None, n=2, seed=i, max_tokens=60) for i in range(4)]
    roomy, tight = _engine(model), _engine(model, pages=60, reuse=False)
    free, pressed = _outputs(roomy, *requests), _outputs(tight, *requests)
    assert tight.scheduler.preemptions > 0
    assert [[o.token_ids for o in each] for each in pressed] == [
        [o.token_ids for o in each] for each in free
    ]
    ended = [_check_json(output, SCHEMAS["types"]) for each in pressed[1::2] for output in each]
    assert sum(ended) >= 2
    check_empty(tight)


def test_a_grammar_beyond_its_limits_ends_alone(model: Any) -> None:
    """Hundreds of ways to read each text: it goes well for a while."""
    ambiguous = StructuredOutputsParams(grammar='start: e\ne: e e | "a" | e e e')
    engine = _engine(model)
    trusted = engine.scheduler.ledger.reuse
    request = _ask(0, ambiguous, ignore_eos=True, max_tokens=240)
    hard, plain = _outputs(engine, request, _ask(1, None, ignore_eos=True))
    assert hard[0].finish_reason == "error"
    assert 10 < len(hard[0].token_ids) < 240
    assert set(hard[0].text or "") == {"a"}
    assert (plain[0].finish_reason, len(plain[0].token_ids)) == ("length", 200)
    assert engine.scheduler.ledger.reuse == trusted


def test_processor_time_is_limited(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_AT_FIRST", 0.0)
    monkeypatch.setattr(module, "_A_TOKEN", 0.0)
    (output,) = _outputs(_engine(model), _ask(0, StructuredOutputsParams(regex="a+")))[0]
    assert (output.finish_reason, output.token_ids) == ("error", [])


def test_there_must_be_a_tokenizer(model: Any) -> None:
    engine = _engine(model, tokenizer=None)
    with pytest.raises(RequestError, match="need a tokenizer"):
        engine.add(_ask(0, StructuredOutputsParams(json_object=True)))
    assert engine.grammars.compile(None) is None
