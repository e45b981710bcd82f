"""Grammars: which tokens they allow, what sampling makes of it, and what is refused."""

import math
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import AddedToken

from loopcoder import SamplingParams
from loopcoder.engine import structured
from loopcoder.engine.grammar import Grammars
from loopcoder.engine.sampling import sample_batch
from loopcoder.engine.sampling_state import SamplingState
from loopcoder.errors import RequestError
from loopcoder.types import StructuredOutputsParams
from tests.engine.grammars import END, SCHEMAS, TOKENIZER, bare_grammar, takes
from tests.engine.helpers import ask, check_empty, small_engine, small_plt
from tests.small import byte_tokenizer


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
    assert [text for text in good if not takes(bare_grammar(params), text)] == []
    assert [text for text in bad if takes(bare_grammar(params), text)] == []


@pytest.mark.parametrize("text", ["", '{"', '{"s"', '{"s": "a', '{"s": "a", "b": t'])
def test_the_mask_is_what_one_token_after_another_says(text: str) -> None:
    """The fast mask beside its slow twin: trying each token of the vocabulary."""
    wanted = StructuredOutputsParams(json=SCHEMAS["types"])
    grammar = bare_grammar(wanted)
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
    grammar = bare_grammar(StructuredOutputsParams(regex="[#-z]{2,3}"))
    spelled = TOKENIZER("$")["input_ids"][0]
    seen = []
    for _ in range(2):
        seen.append(bool(grammar.allowed(256)[END]))
        grammar.accept(spelled)
    assert seen == [False, False]
    assert grammar.allowed(256)[END]
    grammar.accept(END)
    assert grammar.finished


@pytest.mark.parametrize("cut", [{}, {"top_k": 1}, {"top_k": 7}, {"top_p": 0.4}, {"min_p": 0.2}])
def test_cuts_choose_among_what_the_grammar_leaves(cut: dict[str, Any]) -> None:
    """As if the other tokens had never been: the same draws as from their logits alone."""
    torch.manual_seed(0)
    logits_BV = torch.randn(64, 256) * 3
    wanted = StructuredOutputsParams(regex="[a-t]+")
    left = bare_grammar(wanted).allowed(256)
    without_BV = logits_BV.masked_fill(torch.from_numpy(~left), -math.inf)
    params = SamplingParams(seed=5, **cut)
    with_grammar = [SamplingState(params, index=i, grammar=bare_grammar(wanted)) for i in range(64)]
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
            grammar=bare_grammar(StructuredOutputsParams(choice=("b", "cd", "c"))),
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
    grammar = bare_grammar(StructuredOutputsParams(regex="[a-z]+"))
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
        ({"regex": "a\ud800"}, "half of a surrogate pair"),
        ({"choice": ("\udc00",)}, "half of a surrogate pair"),
        ({"json": {"const": "\ud800"}}, "JSON schema .* cannot be enforced"),
        ({"grammar": "start: nowhere"}, 'grammar .* unknown name: "nowhere"'),
        ({"grammar": "no rules"}, "grammar .* cannot be enforced"),
    ],
    ids=lambda value: ascii(value)[:40],
)
def test_a_bad_grammar_is_one_clear_line(wanted: dict[str, Any], message: str) -> None:
    params = StructuredOutputsParams(**wanted)
    engine = small_engine(small_plt(torch.float32), tokenizer=TOKENIZER, end_token_ids=[END])
    for refuse in (structured.check_grammar, engine.grammars.check, engine.grammars.compile):
        with pytest.raises(RequestError, match=message) as caught:
            refuse(params)
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 400
    with pytest.raises(RequestError, match=message):
        engine.add(ask(0, [1], structured_outputs=params))
    check_empty(engine)


def test_what_is_not_strict_passes_over_what_cannot_be_enforced() -> None:
    schema = {"type": "array", "uniqueItems": True, "items": {"type": "integer"}}
    loose = structured.enforceable(schema, strict=False)
    assert takes(bare_grammar(StructuredOutputsParams(json=loose)), "[1,1]")
    assert not takes(bare_grammar(StructuredOutputsParams(json=loose)), '["a"]')
    with pytest.raises(RequestError, match="uniqueItems"):
        structured.check_grammar(
            StructuredOutputsParams(json=structured.enforceable(loose, strict=True))
        )


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
