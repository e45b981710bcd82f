"""An OpenAI-compatible endpoint as an inspect-ai model: `loopcoder-api/NAME` with a base URL."""

from typing import Any, cast

import httpx
from inspect_ai.model import (
    ChatCompletionChoice,
    ChatMessage,
    ChatMessageAssistant,
    GenerateConfig,
    ModelCall,
    ModelOutput,
    ModelUsage,
)
from inspect_ai.model._providers.openai_compatible import OpenAICompatibleAPI
from inspect_ai.tool import ToolChoice, ToolInfo
from openai import APIStatusError
from openai.types import Completion

from loopcoder.errors import RequestError
from loopcoder.eval.provider.params import RAW, SUFFIX

_NO_KEY = "none"
_STOP_REASONS: dict[str | None, Any] = {"stop": "stop", "length": "max_tokens"}
_BYTES_A_TOKEN = 3  # of code, on the safe side, for endpoints that do not count


class EndpointAPI(OpenAICompatibleAPI):
    """`loopcoder serve`, vLLM, llama.cpp or any other server with OpenAI's routes.

    Conversations go to /chat/completions; with `raw_prompt` in `extra_body` a text goes to
    /completions as it is. Tokens are counted by the server's /tokenize where it has one.
    """

    def __init__(
        self,
        model_name: str,
        base_url: str | None = None,
        api_key: str | None = None,
        config: GenerateConfig | None = None,
        **model_args: Any,
    ) -> None:
        super().__init__(
            model_name,
            base_url,
            api_key or _NO_KEY,
            config or GenerateConfig(),
            service="loopcoder",
            strict_tools=False,
            **model_args,
        )
        self._counts = True

    def service_model_name(self) -> str:
        """The name as the server knows it; slashes belong to it."""
        return self.model_name

    @property
    def root(self) -> str:
        """The server's address without /v1."""
        return str(self.base_url).rstrip("/").removesuffix("/v1")

    async def generate(
        self,
        input: list[ChatMessage],
        tools: list[ToolInfo],
        tool_choice: ToolChoice,
        config: GenerateConfig,
    ) -> ModelOutput | tuple[ModelOutput | Exception, ModelCall]:
        """Answer, or go on with a raw prompt."""
        extra = dict(config.extra_body or {})
        raw, suffix = extra.pop(RAW, False), extra.pop(SUFFIX, None)
        config = config.model_copy(update={"extra_body": extra or None})
        if not raw:
            return await super().generate(input, tools, tool_choice, config)
        if len(input) != 1:
            raise RequestError(f"{RAW} goes with one message, and there are {len(input)}")
        return await self._complete(input[0].text, suffix, config)

    async def _complete(
        self, prompt: str, suffix: str | None, config: GenerateConfig
    ) -> ModelOutput | tuple[Exception, ModelCall]:
        request = {**self.completion_params(config, tools=False), "prompt": prompt}
        if suffix is not None:
            request["suffix"] = suffix
        try:
            completion = await self.client.completions.create(**request)
        except APIStatusError as error:
            if error.status_code not in (400, 403, 413, 422):
                raise
            answer = self.handle_bad_request(error)
            if isinstance(answer, ModelOutput):
                return answer
            return answer, ModelCall.create(request, error.body)
        return self._output(completion)

    def _output(self, completion: Completion) -> ModelOutput:
        choices = getattr(completion, "choices", None)
        if not choices or not all(isinstance(each.text, str) for each in choices):
            raise RequestError(f"{self.root} answered with something that is no completion")
        usage = completion.usage
        return ModelOutput(
            model=completion.model or self.model_name,
            choices=[
                ChatCompletionChoice(
                    message=ChatMessageAssistant(content=each.text, model=self.model_name),
                    stop_reason=_STOP_REASONS.get(each.finish_reason, "unknown"),
                )
                for each in choices
            ],
            usage=None
            if usage is None
            else ModelUsage(
                input_tokens=usage.prompt_tokens,
                output_tokens=usage.completion_tokens,
                total_tokens=usage.total_tokens,
            ),
        )

    async def chats(self) -> bool:
        """Whether the model answers conversations: its own word, or yes where it says nothing."""
        page = await self.client.models.list()
        for model in page.data:
            if model.id == self.model_name:
                return bool(cast(Any, model).model_dump().get("chat", True))
        return True

    async def count_text_tokens(self, text: str) -> int:
        """By the server's /tokenize, else from the length; nothing is fetched from elsewhere."""
        if self._counts:
            try:
                async with httpx.AsyncClient(timeout=10) as client:
                    answer = await client.post(
                        f"{self.root}/tokenize",
                        json={"model": self.model_name, "prompt": text},
                        headers={"Authorization": f"Bearer {self.api_key}"},
                    )
                return int(answer.raise_for_status().json()["count"])
            except (httpx.HTTPError, ValueError, KeyError, TypeError):
                self._counts = False
        return len(text.encode()) // _BYTES_A_TOKEN + 1
