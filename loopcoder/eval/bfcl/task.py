"""BFCL's single-turn questions as an inspect-ai task."""

import json
from collections.abc import Mapping
from functools import cache, partial
from itertools import zip_longest
from pathlib import Path
from typing import Any, Literal

import anyio.to_thread
from inspect_ai import Task, task
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.model import (
    ChatMessage,
    ChatMessageAssistant,
    ChatMessageSystem,
    ChatMessageUser,
    GenerateConfig,
    Model,
    ModelOutput,
    get_model,
)
from inspect_ai.model._generate_config import active_generate_config
from inspect_ai.scorer import (
    Metric,
    SampleScore,
    Score,
    Scorer,
    Target,
    accuracy,
    metric,
    scorer,
    stderr,
)
from inspect_ai.solver import Generate, Solver, TaskState, solver
from inspect_ai.tool import ToolInfo, ToolParams

from loopcoder.errors import EvaluationError
from loopcoder.eval.bfcl.client import VERSIONS, Bridge, Checked, Mode, Question
from loopcoder.eval.bfcl.summary import category_of, summary
from loopcoder.eval.provider.chat import has_chat
from loopcoder.eval.provider.params import RAW

Asked = Literal["auto", "prompt", "tools", "completion"]
ASKED = "asked"  # in a sample's metadata: how the model was asked
# Base models have no published form: the prompt's turns as one text, up to the first empty line.
_BETWEEN_TURNS = "\n\n"

_TURNS: Mapping[str, type[ChatMessage]] = {
    "system": ChatMessageSystem,
    "user": ChatMessageUser,
    "assistant": ChatMessageAssistant,
}


@task
def bfcl(
    categories: str | list[str] = "single_turn",
    mode: Asked = "auto",
    version: str = "v4",
    data: str | None = None,
) -> Task:
    """The Berkeley Function Calling Leaderboard's single-turn categories, by its own checker.

    Args:
        categories: A list, or names with commas between: categories ("simple_python",
            "live_multiple", and so on) or the leaderboard's collections ("single_turn", "live",
            "non_live", "python").
        mode: "prompt" is the leaderboard's prompt for models without function calling, "tools"
            gives the functions as tools, "completion" is one text for base models; "auto" is
            "prompt" for a model that answers conversations, else "completion".
        version: "v4" or "v3": the questions, the checker and the averages of either.
        data: A directory with question files in the leaderboard's format, in place of its own.
    """
    if mode not in ("auto", "prompt", "tools", "completion"):
        raise EvaluationError(f"bfcl's mode is {mode!r}; give auto, prompt, tools or completion")
    bridge = _bridge(version, data)
    texts = [categories] if isinstance(categories, str) else categories
    names = [name.strip() for text in texts for name in text.split(",") if name.strip()]
    chosen = bridge.categories(names)
    # One of each category in turn, so that a limit is a slice of all of them.
    rounds = zip_longest(*(_questions(bridge, category).values() for category in chosen))
    samples = [_sample(question) for each in rounds for question in each if question]
    return Task(
        dataset=MemoryDataset(samples, name="bfcl"),
        solver=call_functions(mode, version, data),
        scorer=checked(version, data),
        metrics=[accuracy(), stderr(), leaderboard(version)],
        version=VERSIONS[version].alone[0],
    )


@cache
def _bridge(version: str, data: str | None) -> Bridge:
    """One process for the task, its solver and its scorer."""
    if version not in VERSIONS:
        raise EvaluationError(f"bfcl has no version {version!r}; give {' or '.join(VERSIONS)}")
    return Bridge(VERSIONS[version].require(), Path(data).resolve() if data else None)


@cache
def _questions(bridge: Bridge, category: str) -> dict[str, Question]:
    return {question.id: question for question in bridge.questions(category)}


def _question(bridge: Bridge, id: str) -> Question:
    return _questions(bridge, category_of(id))[id]


def _sample(question: Question) -> Sample:
    return Sample(
        id=question.id,
        input=[_turn(each) for each in question.messages],
        metadata={"category": question.category},
    )


def _turn(message: Mapping[str, str]) -> ChatMessage:
    return _TURNS[message["role"]](content=message["content"])


@solver
def call_functions(mode: Asked = "auto", version: str = "v4", data: str | None = None) -> Solver:
    """Ask once; with a seed in the run's settings each epoch has its own: seed, seed + 1, ..."""
    bridge = _bridge(version, data)

    async def solve(state: TaskState, generate: Generate) -> TaskState:
        model = get_model()
        question = _question(bridge, str(state.sample_id))
        asked = mode
        if mode == "auto":
            asked = "prompt" if await has_chat(model) else "completion"
        state.metadata[ASKED] = asked
        state.messages = _conversation(question, asked)
        state.output = await model.generate(
            state.messages,
            tools=[_tool(each) for each in question.tools] if asked == "tools" else [],
            config=_config(model, asked, state.epoch),
        )
        state.messages.append(state.output.message)
        return state

    return solve


def _conversation(question: Question, asked: Asked) -> list[ChatMessage]:
    if asked == "tools":
        return [_turn(each) for each in question.messages]
    if asked == "prompt":
        return [_turn(each) for each in question.prompt]
    turns = [*(each["content"] for each in question.prompt), ""]
    return [ChatMessageUser(content=_BETWEEN_TURNS.join(turns))]


def _tool(tool: Mapping[str, Any]) -> ToolInfo:
    """Their description as inspect's, which drops `optional`, `minItems` and defaults of null."""
    function = tool["function"]
    return ToolInfo(
        name=function["name"],
        description=function["description"],
        parameters=ToolParams(**{"additionalProperties": None, **function["parameters"]}),
    )


def _config(model: Model, asked: Asked, epoch: int) -> GenerateConfig:
    running = model.config.merge(active_generate_config())
    changes: dict[str, Any] = {}
    if running.seed is not None:
        changes["seed"] = running.seed + epoch - 1
    if asked == "completion":
        changes["extra_body"] = {**(running.extra_body or {}), RAW: True}
        changes["stop_seqs"] = [_BETWEEN_TURNS]
    return GenerateConfig(**changes)


@metric
def leaderboard(version: str = "v4") -> Metric:
    """Each category's share, and the leaderboard's averages (`summary`)."""

    def compute(scores: list[SampleScore]) -> dict[str, float]:
        pairs = [(category_of(str(each.sample_id)), each.score.as_float()) for each in scores]
        return summary(pairs, version)

    return compute


@scorer(metrics=[accuracy(), stderr(), leaderboard()])
def checked(version: str = "v4", data: str | None = None) -> Scorer:
    """1.0 where the leaderboard's checker finds the answer right, else 0.0.

    The metadata say `category`, `reason` and `detail` (`client.Checked`). Raises `EvaluationError`
    where the checker's process fails: such an answer is unscored, not wrong.
    """
    bridge = _bridge(version, data)

    async def score(state: TaskState, target: Target) -> Score:
        mode: Mode = "tools" if state.metadata.get(ASKED) == "tools" else "prompt"
        answer = answer_of(state.output, mode)
        if state.output.stop_reason == "model_length":  # no word of it: not right about irrelevance
            detail = "the question and its answer are longer than the model's context"
            result = Checked(valid=False, reason="too_long", detail=detail)
        else:
            check = partial(bridge.check, str(state.sample_id), mode, answer)
            result = await anyio.to_thread.run_sync(check)
        return _score(state, answer, result)

    return score


def _score(state: TaskState, answer: str | list[dict[str, str]], result: Checked) -> Score:
    return Score(
        value=float(result.valid),
        answer=answer if isinstance(answer, str) else json.dumps(answer),
        explanation=result.detail or result.reason,
        metadata={
            "category": category_of(str(state.sample_id)),
            "reason": result.reason,
            "detail": result.detail,
        },
    )


def answer_of(output: ModelOutput, mode: Mode) -> str | list[dict[str, str]]:
    """The text, or the tool calls as {name: JSON of the arguments} ("" where it was no JSON)."""
    calls = output.message.tool_calls if mode == "tools" and output.choices else None
    if not calls:
        return output.completion
    return [
        {call.function: "" if call.parse_error else json.dumps(call.arguments)} for call in calls
    ]
