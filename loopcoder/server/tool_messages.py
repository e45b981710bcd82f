"""A conversation with tools as a chat template takes it, whether or not it knows of tools.

Templates that do are given the messages as OpenAI's API has them. For the others everything is
written into the text, in the form that Hermes and Qwen models are trained on: the tools in the
system message, calls and results between tags.
"""

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from loopcoder.errors import RequestError
from loopcoder.server.tool_reader import CLOSE, OPEN

Message = dict[str, Any]


def template_messages(messages: Sequence[Mapping[str, Any]]) -> list[Message]:
    """Messages with a string as content, and calls whose arguments are objects.

    Parts of a content are lines of it; the role "developer" is today's name of "system". Raises
    `RequestError` for a part that is not text.
    """
    found = []
    for message in messages:
        plain = {**message, "content": _text(message.get("content"))}
        if plain.get("role") == "developer":
            plain["role"] = "system"
        if calls := plain.pop("tool_calls", None):
            plain["tool_calls"] = [_call(call) for call in calls]
        found.append(plain)
    return found


def textual_messages(
    messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]] | None
) -> list[Message]:
    """The same with `tools`, calls and their results as text: role and content alone."""
    found: list[Message] = []
    after_result = False
    for message in template_messages(messages):
        role, content = str(message.get("role")), message["content"]
        if role == "tool":
            result = f"<tool_response>\n{content}\n</tool_response>"
            if after_result:
                found[-1]["content"] += f"\n{result}"
            else:
                found.append({"role": "user", "content": result})
        else:
            calls = [_written(call) for call in message.get("tool_calls", ())]
            lines = [content, *calls] if content else calls
            found.append({"role": role, "content": "\n".join(lines)})
        after_result = role == "tool"
    if not tools:
        return found
    if found and found[0]["role"] == "system":
        told = f"{found[0]['content']}\n\n{_description(tools)}".lstrip()
        return [{"role": "system", "content": told}, *found[1:]]
    return [{"role": "system", "content": _description(tools)}, *found]


def _text(content: Any) -> str:
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    for part in content:
        if not isinstance(part, Mapping) or part.get("type") != "text":
            kind = part.get("type") if isinstance(part, Mapping) else type(part).__name__
            raise RequestError(
                f"a message has a part of type {kind!r}; this model reads text, so give parts of "
                'type "text"'
            )
    return "\n".join(part["text"] for part in content)


def _call(call: Mapping[str, Any]) -> dict[str, Any]:
    """A call of the conversation; arguments that are no JSON stay text."""
    function = call["function"]
    arguments = function.get("arguments") or "{}"
    if isinstance(arguments, str):
        with suppress(ValueError, RecursionError):
            arguments = json.loads(arguments)
    return {**call, "type": "function", "function": {**function, "arguments": arguments}}


def _written(call: Mapping[str, Any]) -> str:
    function = call["function"]
    said = {"name": function["name"], "arguments": function["arguments"]}
    return f"{OPEN}\n{json.dumps(said, ensure_ascii=False)}\n{CLOSE}"


def _description(tools: Sequence[Mapping[str, Any]]) -> str:
    listed = "\n".join(json.dumps(tool, ensure_ascii=False) for tool in tools)
    return (
        "# Tools\n\n"
        "You can call functions to answer the user. These are the functions, as JSON:\n"
        f"<tools>\n{listed}\n</tools>\n\n"
        "To call one, write an object with its name and arguments between these tags:\n"
        f'{OPEN}\n{{"name": <function-name>, "arguments": <arguments-object>}}\n{CLOSE}'
    )
