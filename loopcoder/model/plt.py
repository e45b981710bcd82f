"""The Parallel Loop Transformer: a Llama-like decoder whose layers are applied R times.

What differs from a standard decoder (SPEC.md section 1):

1. Loop r >= 2 reads x^r_t = a E_t + b h^{r-1}_{t-1}: its own embedding and what the previous
   loop made of the token *before* it (CLP). So all loops of a decode step can run together.
2. Later loops attend to loop 1's keys and values, mixed by a gate with a window of their own.
3. The final norm closes every loop; h^r is the state after it.

1 and 2 can be turned off, to measure what each is worth (`ModelConfig.variant`; `serial` only):
`handed_to_next` then shifts nothing, every loop keeps keys of its own, layers have no gate.

The model maps rows, (token, loop) pairs, to rows. Which rows run together is a schedule:
`serial` here runs loop after loop, `parallel` all loops of one token. Names are the paper's;
shape suffixes are listed in `loopcoder.kernels`; `state_dict` names are the released checkpoint's.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from loopcoder.kernels.attention import attention_backend
from loopcoder.model.config import ModelConfig
from loopcoder.model.layers import Layer, Rows, rope_rows
from loopcoder.model.layout import Layout, plain_layout, ragged_layout, shift
from loopcoder.model.serial_kv import SerialKV
from loopcoder.types import KVView


class LoopViews(Protocol):
    """Gives each loop of the serial schedule its view of the keys and values."""

    def loop(self, loop: int) -> KVView:
        """The view for the rows of one loop (0-based)."""
        ...


class Chunk(LoopViews, Protocol):
    """Room for T new tokens in a memory, seen by either schedule."""

    def parallel(self) -> KVView:
        """The view for all loops of the one new token."""
        ...


class LoopMemory(Protocol):
    """Keys, values and carried states of B sequences, whoever owns them."""

    length: int
    carried_RBD: Tensor | None

    def open(self, tokens: int, document_BT: Tensor | None) -> Any:
        """A `Chunk` of `tokens` new columns."""
        ...

    def commit(self, chunk: Any, carried_RBD: Tensor) -> None:
        """Keep the chunk, and the states [R-1, B, D] that its last token hands on."""
        ...


@dataclass(frozen=True, kw_only=True)
class LoopState:
    """What one loop leaves behind: u before and h after the final norm, in the rows' shape."""

    u: Tensor
    h: Tensor


class PLTModel(nn.Module):
    """Embedding, looped layers and final norm: everything but the head."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.shape = config
        weight_VD = torch.empty(config.vocab_size, config.hidden_size)
        if not weight_VD.is_meta:  # there, drawing numbers would load torch's compiler: a second
            nn.init.normal_(weight_VD, std=config.initializer_range)
        self.embed_tokens = nn.Embedding.from_pretrained(weight_VD, freeze=False)
        self.layers = nn.ModuleList(
            Layer(config, index) for index in range(config.num_hidden_layers)
        )
        self.norm = nn.RMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        # transformers' trainer switches these two by name (`gradient_checkpointing_enable`).
        self.gradient_checkpointing = False
        self._gradient_checkpointing_func: Callable[..., Tensor] | None = None

    def embed(self, token: Tensor) -> Tensor:
        """E: the unscaled embedding, which is also loop 1's input."""
        E: Tensor = self.embed_tokens(token)
        return E

    def mix(self, E: Tensor, h_before: Tensor) -> Tensor:
        """x^r = a E + b h^{r-1}_{t-1}, the input of a later loop."""
        return self.shape.emb_scale * E + self.shape.hidden_scale * h_before

    def rows(self, position_N: Tensor, dtype: torch.dtype, later: int) -> Rows:
        """Describe rows at `position_N`, of which `later:` belong to loops 2 and up."""
        return rope_rows(position_N, self.shape, dtype, later)

    def run_layers(self, x_ND: Tensor, rows: Rows, kv: KVView) -> LoopState:
        """Pass rows through all layers and the final norm; those that `rows.kept` drops end."""
        recompute = self.gradient_checkpointing and self.training
        for index, layer in enumerate(self.layers):
            if recompute and self._gradient_checkpointing_func is not None:
                x_ND = self._gradient_checkpointing_func(layer.__call__, x_ND, rows, kv)
            else:
                x_ND = layer(x_ND, rows, kv)
            rows = rows.kept[index].rows if index in rows.kept else rows
        return LoopState(u=x_ND, h=self.norm(x_ND))

    def handed_on(self, state: LoopState) -> Tensor:
        """What the next loop reads of this one: h, or u without per-loop norm."""
        return state.h if self.shape.plt_normalize_per_loop else state.u

    def handed_to_next(self, state: LoopState, layout: Layout, carried_BD: Tensor | None) -> Tensor:
        """What the next loop reads at each token: h_{t-1}, or h_t where loops are serial."""
        h_BTD = self.handed_on(state)
        return shift(h_BTD, layout, carried_BD) if self.shape.plt_loop_offset else h_BTD

    def serial(
        self,
        E_BTD: Tensor,
        layout: Layout,
        views: LoopViews,
        loops: int,
        carried_RBD: Tensor | None = None,
    ) -> list[LoopState]:
        """Run all tokens through loop 1, then loop 2, ...: the oracle. States are [B, T, D].

        `carried_RBD` are the states of loops 1..R-1 at the token before these, where there is one.
        """
        B, T, D = E_BTD.shape
        position_N = layout.position_BT.reshape(B * T)
        states: list[LoopState] = []
        x_BTD = E_BTD
        for loop in range(loops):
            if loop:
                carried_BD = None if carried_RBD is None else carried_RBD[loop - 1]
                x_BTD = self.mix(E_BTD, self.handed_to_next(states[-1], layout, carried_BD))
            rows = self.rows(position_N, E_BTD.dtype, later=0 if loop else B * T)
            state = self.run_layers(x_BTD.reshape(B * T, D), rows, views.loop(loop))
            states.append(LoopState(u=state.u.view(B, T, D), h=state.h.view(B, T, D)))
        return states

    def parallel(
        self, E_BD: Tensor, position_B: Tensor, kv: KVView, carried_RBD: Tensor
    ) -> LoopState:
        """Run one token of B sequences through all loops at once (SPEC.md section 2).

        `carried_RBD` [R - 1, B, D] are the states handed on at the token before. States of the
        result are [R, B, D].
        """
        loops, B = carried_RBD.shape[0] + 1, E_BD.shape[0]
        x_RBD = torch.cat([E_BD[None], self.mix(E_BD, carried_RBD)])
        rows = self.rows(position_B.repeat(loops), E_BD.dtype, later=B)
        state = self.run_layers(x_RBD.flatten(0, 1), rows, kv)
        return LoopState(u=state.u.view_as(x_RBD), h=state.h.view_as(x_RBD))

    def advance(
        self,
        E_BTD: Tensor,
        layout: Layout,
        memory: LoopMemory,
        loops: int,
        *,
        together: bool = True,
    ) -> list[LoopState]:
        """Take `memory` T tokens further, in whichever schedule is the fast one.

        With `together` false a single token's loops run one after another too, as the vendor's
        runner does: the yardstick. States of the result are [B, T, D]. A memory is that of the
        released architecture.
        """
        assert not self.shape.variant, "a memory holds one loop's keys in full, and shifted states"
        T = E_BTD.shape[1]
        chunk: Chunk = memory.open(T, layout.document_BT)
        carried_RBD = memory.carried_RBD
        if T == 1 and carried_RBD is not None and together:
            if layout.first_BT is not None:
                carried_RBD = carried_RBD.masked_fill(layout.first_BT, 0.0)
            state = self.parallel(
                E_BTD[:, 0], layout.position_BT[:, 0], chunk.parallel(), carried_RBD
            )
            states = [
                LoopState(u=u_BD[:, None], h=h_BD[:, None])
                for u_BD, h_BD in zip(state.u, state.h, strict=True)
            ]
        else:
            states = self.serial(E_BTD, layout, chunk, loops, carried_RBD)
        last = [self.handed_on(state)[:, -1] for state in states[:-1]]
        empty = E_BTD.new_empty(0, *E_BTD[:, 0].shape)
        memory.commit(chunk, torch.stack(last) if last else empty)
        return states

    def check_loops(self, loops: int | None) -> int:
        """See `ModelConfig.check_loops`."""
        return self.shape.check_loops(loops)

    def forward(
        self,
        token_BT: Tensor,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        num_loops: int | None = None,
    ) -> list[LoopState]:
        """Every loop at every token, without a cache: one `LoopState` of [B, T, D] each."""
        B, T = token_BT.shape
        if attention_mask is None and position_ids is None:
            layout = plain_layout(B, T, token_BT.device)
        else:
            layout = ragged_layout(B, T, attention_mask=attention_mask, position_ids=position_ids)
        E_BTD = self.embed(token_BT)
        views = SerialKV(layout, self.shape, attention_backend(E_BTD.device, E_BTD.dtype))
        return self.serial(E_BTD, layout, views, self.check_loops(num_loops))


@dataclass(frozen=True, kw_only=True)
class PLTOutput:
    """Logits [B, T, V] of the last loop, and h^1 .. h^R, each [B, T, D]."""

    logits: Tensor
    loop_states: tuple[Tensor, ...]


class PLT(nn.Module):
    """`PLTModel` and its head; what the engine and the probes run."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.model = PLTModel(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.tie()

    def tie(self) -> None:
        """Make the head the embedding where the configuration says so."""
        if self.config.tie_word_embeddings:
            self.lm_head.weight = self.model.embed_tokens.weight

    def load_state_dict(self, state_dict: Any, strict: bool = True, assign: bool = False) -> Any:
        """As torch's; a tied checkpoint has no `lm_head.weight` of its own."""
        if self.config.tie_word_embeddings:
            embedding = state_dict["model.embed_tokens.weight"]
            state_dict = {**state_dict, "lm_head.weight": embedding}
        result = super().load_state_dict(state_dict, strict=strict, assign=assign)
        self.tie()
        return result

    def forward(
        self,
        token_BT: Tensor,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        num_loops: int | None = None,
    ) -> PLTOutput:
        """The serial schedule at every position. Padding and packing: see `ragged_layout`."""
        states = self.model(token_BT, attention_mask, position_ids, num_loops)
        return PLTOutput(
            logits=self.lm_head(states[-1].h), loop_states=tuple(state.h for state in states)
        )
