"""What inspect-ai finds of ours by the entry point `inspect_ai`: providers, sandbox, tasks.

Providers are registered as functions, so that listing tasks loads no torch.
"""

from inspect_ai.model import ModelAPI, modelapi

from loopcoder.eval.sandbox.provider import LoopCoderSandbox
from loopcoder.eval.tasks.table import TASKS

__all__ = ["TASKS", "LoopCoderSandbox", "loopcoder", "loopcoder_api"]


@modelapi(name="loopcoder")
def loopcoder() -> type[ModelAPI]:
    """The engine in this process: `--model loopcoder/loopcoder-nano`."""
    from loopcoder.eval.provider.local import LoopCoderAPI

    return LoopCoderAPI


@modelapi(name="loopcoder-api")
def loopcoder_api() -> type[ModelAPI]:
    """An OpenAI-compatible endpoint: `--model loopcoder-api/NAME --model-base-url URL/v1`."""
    from loopcoder.eval.provider.endpoint import EndpointAPI

    return EndpointAPI
