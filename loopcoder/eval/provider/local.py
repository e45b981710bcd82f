"""The engine in this process as an inspect-ai model: `loopcoder/NAME_OR_DIRECTORY`."""

from typing import Any

from inspect_ai.model import (
    ChatCompletionChoice,
    ChatMessage,
    ChatMessageAssistant,
    GenerateConfig,
    Logprob,
    Logprobs,
    ModelAPI,
    ModelOutput,
    ModelUsage,
    TopLogprob,
)
from inspect_ai.model._providers.util.chatapi import ChatAPIHandler, chat_api_input
from inspect_ai.model._providers.util.llama31 import Llama31Handler
from inspect_ai.tool import ToolChoice, ToolInfo

from loopcoder.checkpoint.infill import infill_prompt
from loopcoder.engine.asynchronous import AsyncLLM
from loopcoder.engine.llm import LLM
from loopcoder.engine.prompts import Prompt
from loopcoder.errors import GenerationError, RequestError
from loopcoder.eval.provider.params import RAW, SUFFIX, sampling_params
from loopcoder.types import CompletionOutput, RequestOutput

_STOP_REASONS: dict[str | None, Any] = {"stop": "stop", "length": "max_tokens"}


class LoopCoderAPI(ModelAPI):
    """A checkpoint run by `LLM`, many samples in one batch.

    Model arguments are those of `LLM` (`loops`, `dtype`, `quantization`, `num_threads`,
    `max_num_seqs`, ...). Tools are described in the prompt and read back from `<tool_call>` tags.
    Tokens are counted by the model's own tokenizer; nothing is fetched.
    """

    def __init__(
        self,
        model_name: str,
        base_url: str | None = None,
        api_key: str | None = None,
        config: GenerateConfig | None = None,
        **model_args: Any,
    ) -> None:
        super().__init__(model_name, base_url, api_key, [], config or GenerateConfig())
        model_args.setdefault("max_num_seqs", 16)
        self._seats = int(model_args["max_num_seqs"])
        self.engine = AsyncLLM(LLM(model_name, **model_args))
        self._handler = Llama31Handler(model_name)

    async def chats(self) -> bool:
        """Whether the checkpoint has a chat template."""
        tokenizer = self.engine.llm.tokenizer
        return tokenizer is not None and bool(tokenizer.chat_template)

    async def generate(
        self,
        input: list[ChatMessage],
        tools: list[ToolInfo],
        tool_choice: ToolChoice,
        config: GenerateConfig,
    ) -> ModelOutput:
        """Answer, or go on with a raw prompt. Raises `RequestError` or `GenerationError`."""
        offered = [] if tool_choice == "none" else tools
        prompt = self._prompt(input, offered, config.extra_body or {})
        if len(self.engine.llm.encode(prompt)) >= self.engine.llm.max_model_len:
            return ModelOutput.from_content(self.model_name, "", stop_reason="model_length")
        output = await self.engine.generate(prompt, sampling_params(config))
        if any(each.finish_reason == "error" for each in output.outputs):
            raise GenerationError("the model's logits are not numbers (NaN or infinite)")
        return self._output(output, offered)

    def _prompt(
        self, messages: list[ChatMessage], tools: list[ToolInfo], extra: dict[str, Any]
    ) -> Prompt:
        if not extra.get(RAW):
            turns: list[Any] = chat_api_input(messages, tools, self._handler)
            return self.engine.llm.chat_tokens(turns)
        if len(messages) != 1:
            raise RequestError(f"{RAW} goes with one message, and there are {len(messages)}")
        if SUFFIX in extra:
            return infill_prompt(self.engine.llm.tokenizer, messages[0].text, extra[SUFFIX])
        return messages[0].text

    def _output(self, output: RequestOutput, tools: list[ToolInfo]) -> ModelOutput:
        written = sum(len(each.token_ids) for each in output.outputs)
        read = len(output.prompt_token_ids)
        return ModelOutput(
            model=self.model_name,
            choices=[self._choice(each, tools) for each in output.outputs],
            usage=ModelUsage(
                input_tokens=read - output.num_cached_tokens,
                input_tokens_cache_read=output.num_cached_tokens,
                output_tokens=written,
                total_tokens=read + written,
            ),
        )

    def _choice(self, output: CompletionOutput, tools: list[ToolInfo]) -> ChatCompletionChoice:
        text = output.text or ""
        handler: ChatAPIHandler = self._handler if tools else ChatAPIHandler(self.model_name)
        message: ChatMessageAssistant = handler.parse_assistant_response(text, tools)
        reason = _STOP_REASONS.get(output.finish_reason, "unknown")
        return ChatCompletionChoice(
            message=message,
            stop_reason="tool_calls" if message.tool_calls else reason,
            logprobs=_logprobs(output),
        )

    async def count_text_tokens(self, text: str) -> int:
        """By the model's own tokenizer."""
        return len(self.engine.llm.encode(text)) if text else 0

    async def tokenize(self, text: str) -> list[int]:
        """The text as token ids."""
        return self.engine.llm.encode(text)

    def max_connections(self) -> int:
        """As many samples at once as the engine has seats."""
        return self._seats

    def collapse_user_messages(self) -> bool:
        """Chat templates want users and assistants in turn."""
        return True

    def should_retry(self, ex: BaseException) -> bool:
        """What failed here fails again."""
        return False

    async def aclose(self) -> None:
        """End the engine's thread."""
        self.engine.close()


def _logprobs(output: CompletionOutput) -> Logprobs | None:
    if output.logprobs is None:
        return None
    content = []
    for token_id, candidates in zip(output.token_ids, output.logprobs, strict=True):
        chosen = candidates[token_id]
        top = sorted(candidates.values(), key=lambda each: each.rank)
        content.append(
            Logprob(
                token=chosen.decoded_token or "",
                logprob=chosen.logprob,
                top_logprobs=[
                    TopLogprob(token=each.decoded_token or "", logprob=each.logprob) for each in top
                ],
            )
        )
    return Logprobs(content=content)
