"""The solver: the benchmark's prompt in the form that suits the model, and one answer."""

from typing import Any, Literal

from inspect_ai.model import ChatMessageUser, GenerateConfig, Model, get_model
from inspect_ai.model._generate_config import active_generate_config
from inspect_ai.solver import Generate, Solver, TaskState, solver

from loopcoder.eval.problems.types import CodeProblem, ExecutionProblem
from loopcoder.eval.prompts import Prompt, Style, fill_gap, predict, write_function
from loopcoder.eval.provider.chat import has_chat
from loopcoder.eval.provider.params import RAW, SUFFIX
from loopcoder.eval.tasks.load import problems
from loopcoder.eval.tasks.stops import stops

Choice = Literal["auto", "chat", "completion"]
STYLE = "style"  # in a sample's metadata: how the model was asked
SENT_STOPS = 4  # the most that OpenAI's API takes; the answer is cut at all of them afterwards


@solver
def ask(
    benchmark: str,
    data: str | None = None,
    prompt: Choice = "auto",
    mode: Literal["input", "output"] | None = None,
    reasoning: bool = False,
) -> Solver:
    """Ask for each problem once. `prompt` "auto" is chat for a model with a chat template.

    With a seed in the run's settings each epoch has its own: seed, seed + 1, ...
    """
    loaded = problems(benchmark, data)

    async def solve(state: TaskState, generate: Generate) -> TaskState:
        model = get_model()
        problem = loaded[str(state.sample_id)]
        style: Style = "completion"
        if prompt != "completion" and getattr(problem, "suffix", None) is None:
            style = "chat" if prompt == "chat" or await has_chat(model) else "completion"
        asked = prompt_of(problem, benchmark, style, mode, reasoning)
        state.metadata[STYLE] = style
        state.messages = [ChatMessageUser(content=asked.text)]
        return await generate(state, **_settings(asked, _config(model), state.epoch))

    return solve


def prompt_of(
    problem: CodeProblem | ExecutionProblem,
    benchmark: str,
    style: Style,
    mode: Literal["input", "output"] | None = None,
    reasoning: bool = False,
) -> Prompt:
    """What a model is asked; infilling has one form, for it needs the gap's two sides."""
    if isinstance(problem, ExecutionProblem):
        assert mode is not None, "an execution problem asks for the input or the output"
        return predict(problem, style, mode, reasoning)
    if problem.suffix is not None:
        return fill_gap(problem)
    return write_function(problem, style, stops(benchmark))


def _config(model: Model) -> GenerateConfig:
    """What holds for this run; generate's arguments replace its `extra_body` and seed."""
    return model.config.merge(active_generate_config())


def _settings(asked: Prompt, config: GenerateConfig, epoch: int) -> Any:
    extra = dict(config.extra_body or {})
    if asked.raw:
        extra[RAW] = True
    if asked.suffix is not None:
        extra[SUFFIX] = asked.suffix
    chosen: dict[str, Any] = {"extra_body": extra} if extra else {}
    if asked.stop:
        chosen["stop_seqs"] = list(asked.stop[:SENT_STOPS])
    if config.seed is not None:
        chosen["seed"] = config.seed + epoch - 1
    return chosen
