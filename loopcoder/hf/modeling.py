"""The transformers classes: names, loss and `generate` around `PLTModel`, no mathematics."""

from dataclasses import dataclass
from os import PathLike
from typing import Any, Self

import torch
from torch import Tensor, nn
from transformers import GenerationConfig, GenerationMixin, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutputWithPast

from loopcoder.errors import RequestError
from loopcoder.hf.cache import CACHE_NAME, PLTCache, given_cache
from loopcoder.hf.configuration import PLTCoderConfig
from loopcoder.kernels.attention import attention_backend
from loopcoder.model.layers import HiddenStateGate, QueryGate
from loopcoder.model.layout import Layout, plain_layout, ragged_layout
from loopcoder.model.plt import LoopState, PLTModel
from loopcoder.model.serial_kv import SerialKV


@dataclass
class PLTOutputWithPast(CausalLMOutputWithPast):
    """As `CausalLMOutputWithPast`, and h^1 .. h^R, each [B, T, D], after the final norm."""

    loop_hidden_states: tuple[Tensor, ...] | None = None


class IQuestPLTCoderForCausalLM(PreTrainedModel, GenerationMixin):
    """A Parallel Loop Transformer with a language-model head (SPEC.md section 1)."""

    config_class = PLTCoderConfig
    config: PLTCoderConfig
    base_model_prefix = "model"
    supports_gradient_checkpointing = True
    _no_split_modules = ["Layer"]  # noqa: RUF012
    _tied_weights_keys = {"lm_head.weight": "model.embed_tokens.weight"}  # noqa: RUF012
    _supports_sdpa = True

    def __init__(self, config: PLTCoderConfig) -> None:
        super().__init__(config)
        shape = config.shape()
        self.model = PLTModel(shape)
        self.lm_head = nn.Linear(shape.hidden_size, shape.vocab_size, bias=False)
        self.post_init()  # type: ignore[no-untyped-call]

    def _init_weights(self, module: nn.Module) -> None:
        """Gates start at g = 0.5 (SPEC.md section 4); the rest is transformers' default."""
        super()._init_weights(module)  # type: ignore[no-untyped-call]
        if isinstance(module, HiddenStateGate | QueryGate):
            nn.init.zeros_(module.weight)
            nn.init.zeros_(module.bias)

    @classmethod
    def _supports_default_dynamic_cache(cls) -> bool:
        # `generate` then makes no cache of its own, and keeps the one that `forward` returns.
        return False

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | PathLike[str] | None,
        *model_args: Any,
        **kwargs: Any,
    ) -> Self:
        """As transformers', but every tensor is checked first, and only safetensors are read.

        Raises `CheckpointError` or `ConfigError`, naming the tensor or field.
        """
        if pretrained_model_name_or_path is None or kwargs.get("state_dict") is not None:
            loaded: Self = super().from_pretrained(
                pretrained_model_name_or_path, *model_args, **kwargs
            )
            return loaded
        from loopcoder.hf.pretrained import checked_arguments, read_generation_config

        directory, arguments = checked_arguments(pretrained_model_name_or_path, kwargs)
        model = super().from_pretrained(None, *model_args, **arguments)
        (model[0] if isinstance(model, tuple) else model).generation_config = (
            read_generation_config(directory) or GenerationConfig.from_model_config(model.config)
        )
        return model

    def generate(self, *args: Any, **kwargs: Any) -> Any:
        """As transformers', with the cache under either name; a variant computes without one.

        Raises `RequestError` if `cache` and its older name `past_key_values` are both given.
        """
        cache = given_cache(kwargs.pop("cache", None), kwargs.pop("past_key_values", None))
        if cache is not None:
            kwargs[CACHE_NAME] = cache
        if self.model.shape.variant:
            kwargs.setdefault("use_cache", False)
        return super().generate(*args, **kwargs)

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        cache: PLTCache | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        num_loops: int | None = None,
        output_loop_states: bool = False,
        logits_to_keep: int | Tensor = 0,
        past_key_values: PLTCache | None = None,
        **kwargs: Any,
    ) -> PLTOutputWithPast | tuple[Any, ...]:
        """Logits of the last loop [B, T, V], with cross-entropy against `labels` if given.

        `num_loops` runs another loop count than the configuration's. Padding (`attention_mask`)
        and packed documents (`position_ids` that restart at 0): INTERFACE.md. `past_key_values`
        is the older name of `cache`; the output holds the cache under the installed
        transformers' name.
        """
        if (input_ids is None) == (inputs_embeds is None):
            raise RequestError("give either input_ids or inputs_embeds, not both and not neither")
        E_BTD = self.model.embed(input_ids) if inputs_embeds is None else inputs_embeds
        loops = self.model.check_loops(num_loops)
        cache = given_cache(cache, past_key_values)
        if cache is None and use_cache and not self.training:
            cache = PLTCache(self.model.shape, loops=loops, batch=E_BTD.shape[0], like=E_BTD)
        states = self._run(E_BTD, attention_mask, position_ids, cache, loops)
        keep = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
        logits_BTV = self.lm_head(states[-1].h[:, keep])
        loss = None
        if labels is not None:
            loss = self.loss_function(
                logits=logits_BTV, labels=labels, vocab_size=self.config.vocab_size, **kwargs
            )
        named_cache: dict[str, Any] = {CACHE_NAME: cache}
        output = PLTOutputWithPast(
            loss=loss,
            logits=logits_BTV,
            **named_cache,
            loop_hidden_states=tuple(s.h for s in states) if output_loop_states else None,
        )
        return output.to_tuple() if kwargs.get("return_dict") is False else output

    def _run(
        self,
        E_BTD: Tensor,
        attention_mask: Tensor | None,
        position_ids: Tensor | None,
        cache: PLTCache | None,
        loops: int,
    ) -> list[LoopState]:
        past = 0 if cache is None else cache.get_seq_length()
        layout = self._layout(E_BTD, attention_mask, position_ids, cache, past)
        if cache is None:
            backend = attention_backend(E_BTD.device, E_BTD.dtype)
            views = SerialKV(layout, self.model.shape, backend)
            states: list[LoopState] = self.model.serial(E_BTD, layout, views, loops)
            return states
        if cache.memory.shape.loops != loops:
            raise RequestError(
                f"num_loops is {loops}, and the cache was filled with {cache.memory.shape.loops}; "
                "a sequence keeps its loop count"
            )
        return list(self.model.advance(E_BTD, layout, cache.memory, loops))

    def _layout(
        self,
        E_BTD: Tensor,
        attention_mask: Tensor | None,
        position_ids: Tensor | None,
        cache: PLTCache | None,
        past: int,
    ) -> Layout:
        B, T = E_BTD.shape[:2]
        plain = plain_layout(B, T, E_BTD.device, past)
        if attention_mask is None and position_ids is None:
            return plain
        # `generate` always passes both; looking at them saves every later mask. Training does not
        # look: a look is a wait for the device, and breaks a compiled graph.
        unpadded = attention_mask is None or bool(attention_mask.all())
        if not self.training and unpadded:
            if position_ids is None or torch.equal(position_ids.expand(B, T), plain.position_BT):
                return plain
            attention_mask = None
        return ragged_layout(
            B,
            T,
            attention_mask=attention_mask,
            position_ids=position_ids,
            last_document_B=None if cache is None else cache.memory.last_document_B,
        )
