"""Structured outputs: a text that ended fits its schema, whatever the model and its neighbours."""

import json
import math
import re
import subprocess
import sys
from typing import Any

import jsonschema
import numpy as np
import pytest
import torch
from tokenizers import AddedToken

from loopcoder import LLM, SamplingParams
from loopcoder.engine import grammar as module
from loopcoder.engine import structured
from loopcoder.engine.core import Engine
from loopcoder.engine.grammar import Grammar, Grammars
from loopcoder.engine.sampling import sample_batch
from loopcoder.engine.sampling_state import SamplingState
from loopcoder.errors import RequestError
from loopcoder.types import CompletionOutput, StructuredOutputsParams
from tests.engine.helpers import ask, check_empty, finish, small_engine, small_plt
from tests.small import byte_tokenizer

TOKENIZER = byte_tokenizer()
END = 2  # which spells "#": it must be able to stand in a string only where it ends nothing
WORD = {"type": "string", "maxLength": 6}
SMALL = {"type": "integer", "minimum": -5, "maximum": 120}
# Bounded, so that any model comes to an end within some 150 bytes.
SCHEMAS: dict[str, Any] = {
    "types": {
        "type": "object",
        "properties": {"s": WORD, "b": {"type": "boolean"}, "z": {"type": "null"}, "i": SMALL},
        "required": ["s", "b", "z", "i"],
        "additionalProperties": False,
    },
    "nested": {
        "type": "object",
        "properties": {
            "a": {
                "type": "object",
                "properties": {"b": {"type": "object", "properties": {"c": SMALL}}},
                "required": ["b"],
                "additionalProperties": False,
            }
        },
        "required": ["a"],
        "additionalProperties": False,
    },
    "enum": {"enum": ["red", 3, None, {"k": [1, 2.5]}, 'a "quote"', "back\\slash\n"]},
    "array": {"type": "array", "items": SMALL, "minItems": 2, "maxItems": 5},
    "tuple": {"type": "array", "prefixItems": [SMALL, WORD], "items": False, "minItems": 2},
    "ref": {
        "$defs": {
            "tree": {
                "type": "object",
                "properties": {
                    "v": {"enum": [0, 1]},
                    "kids": {"type": "array", "items": {"$ref": "#/$defs/leaf"}, "maxItems": 2},
                },
                "required": ["v"],
                "additionalProperties": False,
            },
            "leaf": {"anyOf": [{"type": "null"}, {"const": "leaf"}]},
        },
        "$ref": "#/$defs/tree",
    },
    "optional": {
        "type": "object",
        "properties": {name: {"enum": [1, 2]} for name in "abcdefgh"},
        "required": ["c"],
        "additionalProperties": False,
    },
    "unicode": {
        "type": "object",
        "properties": {"größe\U0001f600": {"enum": ["é", "日本", "\U0001f600"]}},
        "required": ["größe\U0001f600"],
        "additionalProperties": False,
    },
    "numbers": {
        "type": "object",
        "properties": {
            "n": {"type": "number", "minimum": 0.5, "maximum": 7.25},
            "x": {"type": "integer", "exclusiveMinimum": 3, "multipleOf": 7, "maximum": 999},
        },
        "required": ["n", "x"],
        "additionalProperties": False,
    },
    "pattern": {"type": "string", "pattern": "^[a-f]{2,4}-\\d{2}$"},
    "format": {"type": "string", "format": "date"},
    "union": {"anyOf": [SMALL, {"type": "array", "items": WORD, "maxItems": 2}]},
    "map": {
        "type": "object",
        "properties": {"a": {"const": 1}},
        "additionalProperties": {"type": "boolean"},
        "maxProperties": 3,
        "required": ["a"],
    },
}


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


def _bare_grammar(wanted: StructuredOutputsParams, *, end: bool = True) -> Grammar:
    compiled = Grammars(TOKENIZER, [END]).compile(wanted)
    assert compiled is not None
    return compiled.copy(end=end)


def _takes(grammar: Grammar, text: str) -> bool:
    """Whether the grammar lets the text pass byte by byte, and it may end there."""
    for token in TOKENIZER(text)["input_ids"]:
        if not grammar.allowed(256)[token]:
            return False
        grammar.accept(token)
    return grammar.finished or bool(grammar.allowed(256)[END])


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


@pytest.mark.parametrize(
    ("wanted", "good", "bad"),
    [
        ({"regex": "[a-z]{2}/\\d\n?"}, ["ab/1", "ab/1\n"], ["a/1", "ab/1 "]),
        ({"choice": ("yes", 'n"o', "é\n", "yes!")}, ["yes", "yes!", 'n"o', "é\n"], ["no", ""]),
        ({"grammar": 'start: "a"+ b?\nb: "b"'}, ["a", "aaab"], ["b", "abb"]),
        ({"json_object": True}, ['{"a": 1}', "{}"], ["[]", "1", " {}"]),
        ({"json": '{"type": "integer"}'}, ["-12"], ["1.5", "01"]),
        ({"json": "true"}, ["null", '["a"]'], ["x"]),
        # At most one blank, and only behind a comma or colon.
        ({"json_object": True}, ['{"a":[1, 2]}'], ['{"a":  1}', '{ "a": 1}', '{"a": 1\n}']),
        # Nor can the schema ask for more.
        (
            {"json": {"type": "array", "x-guidance": {"whitespace_flexible": True}}},
            ["[1,2]"],
            ["[ 1]", "[1,  2]"],
        ),
        # A key has one spelling: no escape may bring in "a" as another than the schema's.
        (
            {"json": {"type": "object", "properties": {"a": {"type": "integer"}}}},
            ['{"a":1}', '{"b":"x"}'],
            ['{"\\u0061":"x"}', '{"a":"x"}'],
        ),
        ({"json": {"type": "string"}}, ['"\\n\\""', '"é"'], ['"\\ud800"', '"\n"', '"\x01"']),
    ],
    ids=str,
)
def test_what_a_grammar_lets_pass(wanted: dict[str, Any], good: list[str], bad: list[str]) -> None:
    params = StructuredOutputsParams(**wanted)
    assert [text for text in good if not _takes(_bare_grammar(params), text)] == []
    assert [text for text in bad if _takes(_bare_grammar(params), text)] == []


@pytest.mark.parametrize("text", ["", '{"', '{"s"', '{"s": "a', '{"s": "a", "b": t'])
def test_the_mask_is_what_one_token_after_another_says(text: str) -> None:
    """The fast mask beside its slow twin: trying each token of the vocabulary."""
    wanted = StructuredOutputsParams(json=SCHEMAS["types"])
    grammar = _bare_grammar(wanted)
    for token in TOKENIZER(text)["input_ids"]:
        grammar.accept(token)
    slow = []
    for token in range(256):
        tried = grammar.copy(end=True)
        tried.accept(token)
        slow.append(not tried.failed and token != END)
    assert grammar.allowed(256).tolist() == slow
    assert 0 < sum(slow) < 256


def test_an_end_token_that_spells_something_stands_only_at_the_end() -> None:
    grammar = _bare_grammar(StructuredOutputsParams(regex="[#-z]{2,3}"))
    spelled = TOKENIZER("$")["input_ids"][0]
    seen = []
    for _ in range(2):
        seen.append(bool(grammar.allowed(256)[END]))
        grammar.accept(spelled)
    assert seen == [False, False]
    assert grammar.allowed(256)[END]
    grammar.accept(END)
    assert grammar.finished


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


@pytest.mark.parametrize("cut", [{}, {"top_k": 1}, {"top_k": 7}, {"top_p": 0.4}, {"min_p": 0.2}])
def test_cuts_choose_among_what_the_grammar_leaves(cut: dict[str, Any]) -> None:
    """As if the other tokens had never been: the same draws as from their logits alone."""
    torch.manual_seed(0)
    logits_BV = torch.randn(64, 256) * 3
    wanted = StructuredOutputsParams(regex="[a-t]+")
    left = _bare_grammar(wanted).allowed(256)
    without_BV = logits_BV.masked_fill(torch.from_numpy(~left), -math.inf)
    params = SamplingParams(seed=5, **cut)
    with_grammar = [
        SamplingState(params, index=i, grammar=_bare_grammar(wanted)) for i in range(64)
    ]
    plain = [SamplingState(params, index=i) for i in range(64)]
    chosen = [c.token_id for c in sample_batch(logits_BV, with_grammar)]
    assert chosen == [c.token_id for c in sample_batch(without_BV, plain)]
    assert all(left[token] for token in chosen)
    assert len(set(chosen)) > 3


def test_rows_without_a_grammar_are_left_bit_for_bit() -> None:
    torch.manual_seed(1)
    logits_BV = torch.randn(6, 256).bfloat16()
    kept = logits_BV.clone()
    params = [
        SamplingParams(seed=1, logprobs=3),
        SamplingParams(seed=2, logprobs=3, temperature=0.0),
        SamplingParams(seed=3, logprobs=3, top_k=5, min_tokens=4, logit_bias={3: 2.0}),
    ]
    alone = sample_batch(logits_BV[:3], [SamplingState(each) for each in params])
    held = [
        SamplingState(
            SamplingParams(seed=9, logprobs=2),
            grammar=_bare_grammar(StructuredOutputsParams(choice=("b", "cd", "c"))),
        )
        for _ in range(3)
    ]
    together = sample_batch(logits_BV, [*(SamplingState(each) for each in params), *held])
    assert together[:3] == alone
    assert torch.equal(logits_BV, kept)
    logp_BV = logits_BV.float().log_softmax(-1)
    for row, choice in enumerate(together[3:], 3):
        assert choice.token_id in TOKENIZER("bc")["input_ids"]
        assert choice.logprobs is not None
        # Of the untouched logits: float32 sums in another order, measured 5e-7.
        reported = choice.logprobs[choice.token_id].logprob
        assert reported == pytest.approx(float(logp_BV[row, choice.token_id]), abs=1e-5)


def test_logits_for_more_tokens_than_the_tokenizer_has() -> None:
    torch.manual_seed(2)
    grammar = _bare_grammar(StructuredOutputsParams(regex="[a-z]+"))
    for vocabulary in (300, 257, 100):
        allowed_V = grammar.allowed(vocabulary)
        assert allowed_V.shape == (vocabulary,)
        assert not allowed_V[256:].any()
        assert np.array_equal(allowed_V[:100], grammar.allowed(256)[:100])
    states = [SamplingState(SamplingParams(seed=i), grammar=grammar) for i in range(1)]
    logits_BV = torch.zeros(1, 300)
    logits_BV[:, 256:] = 50
    (choice,) = sample_batch(logits_BV, states)
    assert choice.token_id is not None
    assert choice.token_id < 256


def test_special_tokens_are_no_text() -> None:
    tokenizer = byte_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<turn>"]})
    tokenizer.add_tokens([AddedToken("plain", special=False)])
    special, plain = tokenizer.convert_tokens_to_ids(["<turn>", "plain"])
    compiled = Grammars(tokenizer, [END, 400]).compile(StructuredOutputsParams(regex="[a-z<>]+"))
    assert compiled is not None
    allowed_V = compiled.allowed(500)
    assert (allowed_V[special], allowed_V[plain]) == (False, True)
    compiled.accept(plain)
    assert compiled.allowed(500)[[END, 400]].all(), "all end tokens end it"


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


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"json": {"type": "foo"}}, "JSON schema .* Invalid type: foo"),
        ({"json": "{nope"}, "JSON schema cannot be read"),
        ({"json": "[1]"}, r"JSON schema is \[1\]; it must be an object"),
        ({"json": {"not": {"type": "string"}}}, 'Unimplemented keys: \\["not"\\]'),
        ({"json": {"$ref": "#/$defs/none"}}, "does not exist"),
        ({"json": {"$ref": "http://localhost/schema"}}, "cannot be enforced"),
        ({"json": {"type": "integer", "minimum": 2, "maximum": 1}}, "Unsatisfiable"),
        ({"json": {"type": "string", "pattern": "("}}, "unclosed group"),
        ({"json": {"enum": [float("nan")]}}, "JSON schema cannot be read"),
        ({"json": "[" * 100_000}, "JSON schema cannot be read"),
        ({"regex": "a(?=b)"}, "regex .* look-around"),
        ({"regex": "("}, "regex .* unclosed group"),
        ({"grammar": "start: nowhere"}, 'grammar .* unknown name: "nowhere"'),
        ({"grammar": "no rules"}, "grammar .* cannot be enforced"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_bad_grammar_is_one_clear_line(wanted: dict[str, Any], message: str, model: Any) -> None:
    params = StructuredOutputsParams(**wanted)
    engine = _engine(model)
    for refuse in (structured.check_grammar, engine.grammars.check, engine.grammars.compile):
        with pytest.raises(RequestError, match=message) as caught:
            refuse(params)
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 400
    with pytest.raises(RequestError, match=message):
        engine.add(_ask(0, params))
    check_empty(engine)


def test_what_is_not_strict_passes_over_what_cannot_be_enforced() -> None:
    schema = {"type": "array", "uniqueItems": True, "items": {"type": "integer"}}
    loose = structured.enforceable(schema, strict=False)
    assert _takes(_bare_grammar(StructuredOutputsParams(json=loose)), "[1,1]")
    assert not _takes(_bare_grammar(StructuredOutputsParams(json=loose)), '["a"]')
    with pytest.raises(RequestError, match="uniqueItems"):
        structured.check_grammar(
            StructuredOutputsParams(json=structured.enforceable(loose, strict=True))
        )


def test_there_must_be_a_tokenizer(model: Any) -> None:
    engine = _engine(model, tokenizer=None)
    with pytest.raises(RequestError, match="need a tokenizer"):
        engine.add(_ask(0, StructuredOutputsParams(json_object=True)))
    assert engine.grammars.compile(None) is None


def test_without_llguidance_the_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(structured, "find_spec", lambda name: None)
    wanted = StructuredOutputsParams(json_object=True)
    for refuse in (structured.check_grammar, Grammars(TOKENIZER, [END]).compile):
        with pytest.raises(RequestError, match=r'pip install "loopcoder\[serve\]"'):
            refuse(wanted)


def test_the_library_is_not_loaded_for_those_who_do_not_ask() -> None:
    """Nor torch by those who only check."""
    script = (
        "import sys; import loopcoder.engine.grammar, loopcoder.engine.structured as s\n"
        "assert 'llguidance' not in sys.modules\n"
        "from loopcoder.types import StructuredOutputsParams as P\n"
        "s.check_grammar(P(json_object=True))\n"
        "assert 'torch' not in sys.modules and 'transformers' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
