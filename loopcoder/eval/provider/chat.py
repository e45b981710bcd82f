"""Whether a model answers conversations, for prompts that are chosen by it."""

from typing import Protocol, runtime_checkable

from inspect_ai.model import Model


@runtime_checkable
class TellsChat(Protocol):
    """A provider that knows; both of ours do."""

    async def chats(self) -> bool:
        """Whether the model has a chat template."""


async def has_chat(model: Model) -> bool:
    """By the provider's word; providers of others are chat models."""
    return await model.api.chats() if isinstance(model.api, TellsChat) else True
