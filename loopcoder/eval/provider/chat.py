"""Whether a model answers conversations, for prompts that are chosen by it."""

from inspect_ai.model import Model

from loopcoder.eval.provider.endpoint import EndpointAPI
from loopcoder.eval.provider.local import LoopCoderAPI


async def has_chat(model: Model) -> bool:
    """By its chat template or its server's word; providers of others are chat models."""
    api = model.api
    if isinstance(api, LoopCoderAPI):
        return api.chats
    if isinstance(api, EndpointAPI):
        return await api.chats()
    return True
