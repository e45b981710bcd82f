"""What clients may send: OpenAI's fields, those of vLLM that mean something here, and our own.

Fields of OpenAI that change nothing here (`user`, `store`, ...) are taken and ignored; what neither
knows is refused, as OpenAI does. Ranges are checked where the values are used, so that there is one
place for each.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

TokenId = Annotated[int, Field(ge=0)]


class Body(BaseModel):
    """No unknown field, no value of another type, no NaN."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class RequestBody(Body):
    """A whole body: all of its text can be written as UTF-8.

    JSON can spell half a surrogate pair, which is no character.
    """

    @model_validator(mode="before")
    @classmethod
    def _check_text(cls, body: Any) -> Any:
        waiting = [body]
        while waiting:
            value = waiting.pop()
            if isinstance(value, str):
                try:
                    value.encode()
                except UnicodeEncodeError as error:
                    raise ValueError("the body has half a surrogate pair, no Unicode") from error
            elif isinstance(value, list):
                waiting += value
            elif isinstance(value, dict):
                waiting += [*value.keys(), *value.values()]
        return body


class StreamOptions(Body):
    """`include_usage`: a last chunk with the counts of tokens.

    With vLLM's `continuous_usage_stats` every chunk has those so far. Obfuscation is not done.
    """

    include_usage: bool = False
    include_obfuscation: bool | None = None
    continuous_usage_stats: bool | None = None


class StructuredOutputs(Body):
    """vLLM's `structured_outputs`: what the text must be. One of these."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    json_: Annotated[dict[str, Any] | str | None, Field(alias="json")] = None
    json_object: bool = False
    regex: str | None = None
    choice: list[str] | None = None
    grammar: str | None = None


class GenerationBody(RequestBody):
    """What both endpoints take."""

    model: str | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    n: int | None = None
    stop: str | list[str] | None = None
    seed: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logit_bias: dict[str, float] | None = None
    # vLLM's
    top_k: int | None = None
    min_p: float | None = None
    min_tokens: int | None = None
    repetition_penalty: float | None = None
    stop_token_ids: list[TokenId] | None = None
    include_stop_str_in_output: bool | None = None
    ignore_eos: bool | None = None
    skip_special_tokens: bool | None = None
    return_token_ids: bool | None = None
    structured_outputs: StructuredOutputs | None = None
    # ours
    loops: int | None = None
    loop_lens: int | None = None
    # taken and ignored
    user: str | None = None
    metadata: dict[str, Any] | None = None
    store: bool | None = None
    service_tier: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    prompt_cache_retention: str | None = None


class CompletionBody(GenerationBody):
    """`POST /v1/completions`."""

    prompt: str | list[str] | list[TokenId] | list[list[TokenId]] | None = None
    suffix: str | None = None
    echo: bool | None = None
    logprobs: int | None = None
    best_of: int | None = None


class TextPart(Body):
    """A piece of a message's content."""

    type: Literal["text"]
    text: str


class FunctionCall(Body):
    """Which function an assistant called, and its arguments as JSON text."""

    name: str
    arguments: str


class ToolCall(Body):
    """One call in an assistant's message."""

    id: str | None = None
    type: Literal["function"] = "function"
    function: FunctionCall
    index: int | None = None


class ChatMessage(BaseModel):
    """One message; fields that some server put into an answer may come back and are ignored."""

    model_config = ConfigDict(extra="ignore", strict=True, allow_inf_nan=False)

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[TextPart] | None = None
    name: str | None = None
    tool_calls: list[ToolCall] | None = None
    tool_call_id: str | None = None


class FunctionTool(Body):
    """A function's name, what it is for, and the JSON schema of its arguments."""

    name: Annotated[str, Field(pattern=r"^[a-zA-Z0-9_.-]{1,64}$")]
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class Tool(Body):
    """A tool that the model may call."""

    type: Literal["function"]
    function: FunctionTool


class NamedFunction(Body):
    """The name in a `tool_choice`."""

    name: str


class NamedTool(Body):
    """A `tool_choice` that names the function to be called."""

    type: Literal["function"]
    function: NamedFunction


class JSONSchema(Body):
    """A schema in a `response_format`; it is enforced whatever `strict` says."""

    name: str
    schema_: Annotated[dict[str, Any] | None, Field(alias="schema")] = None
    description: str | None = None
    strict: bool | None = None


class ResponseFormat(Body):
    """text, any JSON object, or JSON of a schema."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JSONSchema | None = None


class ChatBody(GenerationBody):
    """`POST /v1/chat/completions`."""

    messages: Annotated[list[ChatMessage], Field(min_length=1)]
    max_completion_tokens: int | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    response_format: ResponseFormat | None = None
    tools: list[Tool] | None = None
    tool_choice: Literal["none", "auto", "required"] | NamedTool | None = None
    parallel_tool_calls: bool | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    # taken and ignored
    reasoning_effort: str | None = None
    verbosity: str | None = None
    modalities: list[Literal["text"]] | None = None


class TokenizeBody(RequestBody):
    """`POST /tokenize`: `prompt` (or llama.cpp's `content`), or `messages` through the template."""

    model: str | None = None
    prompt: str | None = None
    content: str | None = None
    messages: list[ChatMessage] | None = None
    add_special_tokens: bool | None = None


class DetokenizeBody(RequestBody):
    """`POST /detokenize`."""

    model: str | None = None
    tokens: list[TokenId]
