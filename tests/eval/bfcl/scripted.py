"""Running the inspect task, on a model that says what a function says. Imports inspect-ai."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from inspect_ai import eval as inspect_eval
from inspect_ai.log import EvalLog
from inspect_ai.model import (
    ChatMessage,
    GenerateConfig,
    Model,
    ModelAPI,
    ModelOutput,
    get_model,
    modelapi,
)
from inspect_ai.tool import ToolChoice, ToolInfo

from loopcoder.eval.bfcl.task import bfcl

Answer = Callable[[str, Sequence[ToolInfo]], ModelOutput]


class _Scripted(ModelAPI):
    def __init__(
        self,
        model_name: str,
        base_url: str | None = None,
        api_key: str | None = None,
        config: GenerateConfig | None = None,
        *,
        answer: Answer,
    ) -> None:
        super().__init__(model_name, base_url, api_key, [], config or GenerateConfig())
        self.answer = answer

    async def generate(
        self,
        input: list[ChatMessage],
        tools: list[ToolInfo],
        tool_choice: ToolChoice,
        config: GenerateConfig,
    ) -> ModelOutput:
        return self.answer(input[-1].text, tools)

    async def count_text_tokens(self, text: str) -> int:
        return len(text)  # inspect-ai's own way asks the network


modelapi(name="scripted")(_Scripted)


def scripted(answer: Answer) -> Model:
    return get_model("scripted/model", answer=answer, memoize=False)


def said(text: str, stop_reason: Any = "stop") -> Model:
    return scripted(lambda *_: ModelOutput.from_content("scripted", text, stop_reason))


def run(directory: Path, model: Model | str, *, limit: int, **arguments: Any) -> EvalLog:
    model_args = {"num_threads": 1} if isinstance(model, str) else {}
    (log,) = inspect_eval(
        bfcl(**arguments),
        model=model,
        model_args=model_args,
        log_dir=str(directory),
        display="none",
        score_display=False,
        fail_on_error=False,
        max_tokens=8,
        limit=limit,
    )
    return log


def values(log: EvalLog) -> dict[str, float]:
    assert log.samples is not None, log.error
    return {str(s.id): s.scores["checked"].as_float() for s in log.samples if s.scores}
