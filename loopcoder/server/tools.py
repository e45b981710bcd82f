"""Tools of a chat request: what the template is shown, what the answer is held to, what it calls.

    plan = plan_tools(tools, tool_choice, parallel_tool_calls, template_knows_tools=...)
    text = render(plan.messages(messages), plan.template_tools)
    params = SamplingParams(structured_outputs=plan.structured, ...)
    reader = plan.reader()

The form of a call is `tool_reader`'s, whatever the template's own is.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from loopcoder.errors import RequestError
from loopcoder.server.tool_grammar import tool_grammar
from loopcoder.server.tool_messages import template_messages, textual_messages
from loopcoder.server.tool_reader import CLOSE, OPEN, ToolCall, ToolCallReader, read_call
from loopcoder.types import StructuredOutputsParams

__all__ = ["ToolCall", "ToolCallReader", "ToolPlan", "knows_tools", "plan_tools", "special_tags"]

Render = Callable[[list[dict[str, Any]], list[dict[str, Any]] | None], str]
_NO_PARAMETERS = {"type": "object", "properties": {}}


@dataclass(frozen=True, kw_only=True)
class ToolPlan:
    """How one request deals with its tools.

    `structured` is what the answer is held to, None if to nothing. `shows_special`: the tags are
    special tokens, so the text must show these.
    """

    structured: StructuredOutputsParams | None
    shows_special: bool
    offered: list[dict[str, Any]] | None
    template_knows_tools: bool

    @property
    def template_tools(self) -> list[dict[str, Any]] | None:
        """The tools for the template itself; None where the messages tell of them."""
        return self.offered if self.template_knows_tools else None

    def messages(self, messages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """The conversation for the template. Raises `RequestError` for parts that are not text."""
        if self.template_knows_tools:
            return template_messages(messages)
        return textual_messages(messages, self.offered)

    def reader(self) -> ToolCallReader | None:
        """For one choice's text; None where all of it is content."""
        return None if self.offered is None else ToolCallReader()


def plan_tools(
    tools: Sequence[Mapping[str, Any]] | None,
    tool_choice: str | Mapping[str, Any] | None,
    parallel_tool_calls: bool | None,
    *,
    template_knows_tools: bool,
    special_tags: bool = False,
    answer: StructuredOutputsParams | None = None,
) -> ToolPlan:
    """The plan for OpenAI's `tools`, `tool_choice` and `parallel_tool_calls`.

    "auto" is the choice where there are tools; with "none" they are not shown. `answer` is what
    content is held to, JSON by a `response_format`. Raises `RequestError` for a choice without
    tools or of one that is not there, and for two of one name.
    """
    functions = [tool["function"] for tool in tools or ()]
    names = [function["name"] for function in functions]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise RequestError(f"tools has two functions named {twice!r}; give each its own name")
    choice = _choice(tool_choice, names)
    if choice == "none":
        return ToolPlan(
            structured=answer,
            shows_special=False,
            offered=None,
            template_knows_tools=template_knows_tools,
        )
    named = isinstance(choice, list)
    grammar = tool_grammar(
        [function for function in functions if not named or function["name"] in choice],
        must_call=choice != "auto",
        parallel=parallel_tool_calls is not False and not named,
        answer=_schema(answer),
        special_tags=special_tags,
    )
    return ToolPlan(
        structured=StructuredOutputsParams(grammar=grammar),
        shows_special=special_tags,
        offered=[_shown(function) for function in functions],
        template_knows_tools=template_knows_tools,
    )


def _choice(tool_choice: str | Mapping[str, Any] | None, names: list[str]) -> str | list[str]:
    """none, auto, required, or a list of the one function that must be called."""
    if tool_choice is None:
        return "auto" if names else "none"
    if tool_choice == "none":
        return "none"
    if not names:
        raise RequestError(f"tool_choice is {tool_choice!r}, and there are no tools; give tools")
    if isinstance(tool_choice, str):
        if tool_choice in ("auto", "required"):
            return tool_choice
    elif tool_choice.get("type") == "function":
        name = (tool_choice.get("function") or {}).get("name")
        if name in names:
            return [name]
        raise RequestError(f"tool_choice names {name!r}; the tools are {', '.join(names)}")
    raise RequestError(
        f"tool_choice is {tool_choice!r}; it must be none, auto, required or "
        '{"type": "function", "function": {"name": ...}}'
    )


def _schema(answer: StructuredOutputsParams | None) -> Mapping[str, Any] | str | None:
    if answer is None:
        return None
    assert answer.json_object or answer.json is not None, "response_format is of JSON"
    return {"type": "object"} if answer.json_object else answer.json


def _shown(function: Mapping[str, Any]) -> dict[str, Any]:
    """A tool as models are told of it; whether it is strict is no matter of theirs."""
    kept = {key: value for key, value in function.items() if key != "strict" and value is not None}
    return {"type": "function", "function": {"parameters": _NO_PARAMETERS, **kept}}


def knows_tools(render: Render) -> bool:
    """Whether a chat template shows tools, calls and results, in the form that is read here.

    `render` gives a conversation's text. A template with a form of its own counts as one that
    knows nothing: its model is told ours.
    """
    tool = {"name": "probed_name", "description": "probed", "parameters": _NO_PARAMETERS}
    call = {"name": "probed_name", "arguments": '{"probed_key": 1}'}
    asked = {"role": "user", "content": "?"}
    conversation = template_messages(
        [
            asked,
            {"role": "assistant", "tool_calls": [{"id": "1", "function": call}]},
            {"role": "tool", "tool_call_id": "1", "content": "probed_result"},
        ]
    )
    try:
        shown = render([asked], [_shown(tool)])
        called = render(conversation, [_shown(tool)])
    except Exception:  # a template is a program of the checkpoint's and may fail in any way
        return False
    bodies = [part.partition(CLOSE)[0] for part in called.split(OPEN)]
    read = any((found := read_call(body)) and "probed_key" in found[1] for body in bodies)
    return read and "probed_result" in called and OPEN in shown and "probed_name" in shown


def special_tags(tokenizer: Any) -> bool:
    """Whether both tags of a call are special tokens; `tokenizer` has a `backend_tokenizer`."""
    added = tokenizer.backend_tokenizer.get_added_tokens_decoder().values()
    return {OPEN, CLOSE} <= {token.content for token in added if token.special}
