"""A model that answers as the test says, through inspect-ai's own machinery, without a network."""

from collections.abc import Callable
from typing import Any

from inspect_ai.model import (
    ChatMessage,
    GenerateConfig,
    Model,
    ModelAPI,
    ModelOutput,
    ModelUsage,
    get_model,
    modelapi,
)
from inspect_ai.tool import ToolChoice, ToolInfo

Answer = Callable[[str, GenerateConfig], str]


class ToldAPI(ModelAPI):
    """Answers by a function of the prompt and the settings."""

    def __init__(
        self,
        model_name: str,
        base_url: str | None = None,
        api_key: str | None = None,
        config: GenerateConfig | None = None,
        *,
        answer: Answer,
        chat: bool = True,
    ) -> None:
        super().__init__(model_name, base_url, api_key, [], config or GenerateConfig())
        self._answer = answer
        self._chat = chat

    async def generate(
        self,
        input: list[ChatMessage],
        tools: list[ToolInfo],
        tool_choice: ToolChoice,
        config: GenerateConfig,
    ) -> ModelOutput:
        (message,) = input
        output = ModelOutput.from_content(self.model_name, self._answer(message.text, config))
        output.usage = ModelUsage(input_tokens=1, output_tokens=1, total_tokens=2)
        return output

    async def chats(self) -> bool:
        return self._chat


@modelapi(name="told")
def told() -> type[ModelAPI]:
    return ToldAPI


def model(answer: Answer, **arguments: Any) -> Model:
    return get_model("told/model", memoize=False, answer=answer, **arguments)
