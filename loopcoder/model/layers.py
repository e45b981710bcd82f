"""One physical layer of the PLT over a flat batch of rows (SPEC.md section 1).

The only implementation of the layer's mathematics: training, prefill and decoding differ in which
rows they pass and in the `KVView` behind the attention, not in this file.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from loopcoder.model.config import ModelConfig
from loopcoder.types import KVView

if TYPE_CHECKING:
    from loopcoder.kernels.linear import Product
    from loopcoder.model.products import FusedLinears


@dataclass(frozen=True, kw_only=True)
class Rows:
    """What a layer must know of its rows: RoPE angles, and where the later loops begin.

    Rows of loop 1 come first; rows `later:` belong to loops 2 and up. `kept` names, by layer, the
    rows that go on once the layer has written their keys and values (all, where it names none):
    in prefill the later loops need fewer rows layer by layer (SPEC.md section 3).
    """

    cos_NK: Tensor
    sin_NK: Tensor
    later: int
    kept: Mapping[int, "Kept"] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Kept:
    """Rows that go on, as indices into the rows before, and their own description."""

    index_N: Tensor
    rows: Rows


def rope_rows(position_N: Tensor, config: ModelConfig, dtype: torch.dtype, later: int) -> Rows:
    """Angles for rows at `position_N`; the same in every loop."""
    K = config.head_dim
    precise = torch.promote_types(dtype, torch.float32)
    exponent = torch.arange(0, K, 2, device=position_N.device, dtype=precise) / K
    angle = position_N.to(precise)[:, None] * config.rope_theta**-exponent
    angle_NK = torch.cat([angle, angle], dim=-1)
    return Rows(cos_NK=angle_NK.cos().to(dtype), sin_NK=angle_NK.sin().to(dtype), later=later)


def apply_rope(x_NHK: Tensor, rows: Rows) -> Tensor:
    """Rotate-half RoPE."""
    first, second = x_NHK.chunk(2, dim=-1)
    rotated_NHK = torch.cat([-second, first], dim=-1)
    cos, sin = rows.cos_NK[:, None].to(x_NHK.dtype), rows.sin_NK[:, None].to(x_NHK.dtype)
    return x_NHK * cos + rotated_NHK * sin


class HiddenStateGate(nn.Module):
    """g = sigmoid(W_g RMSNorm_g(residual) + b_g): one weight on the global branch per head."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(config.num_attention_heads, config.hidden_size))
        self.bias = nn.Parameter(torch.zeros(config.num_attention_heads))
        self.gate_norm = nn.RMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.product: Product | None = None  # stands for the matrix in a prepared model

    def forward(self, residual_MD: Tensor, q_MHK: Tensor) -> Tensor:
        """Gate of each row and head: [M, H]."""
        n_MD = self.gate_norm(residual_MD)
        if self.product is not None:
            return (self.product(n_MD) + self.bias).sigmoid()
        return nn.functional.linear(n_MD, self.weight, self.bias).sigmoid()


class QueryGate(nn.Module):
    """g_h = sigmoid(q_h . w_h + b_h), on the query after RoPE."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(config.num_attention_heads, config.head_dim))
        self.bias = nn.Parameter(torch.zeros(config.num_attention_heads))

    def forward(self, residual_MD: Tensor, q_MHK: Tensor) -> Tensor:
        """Gate of each row and head: [M, H]."""
        return ((q_MHK * self.weight).sum(-1) + self.bias).sigmoid()


class Attention(nn.Module):
    """Grouped-query attention; later loops mix in a local branch (G-SWA), if gated."""

    def __init__(self, config: ModelConfig, index: int) -> None:
        super().__init__()
        self.index = index
        self.head_dim = K = config.head_dim
        D, H, G = config.hidden_size, config.num_attention_heads, config.num_key_value_heads
        self.q_proj = nn.Linear(D, H * K, bias=False)
        self.k_proj = nn.Linear(D, G * K, bias=False)
        self.v_proj = nn.Linear(D, G * K, bias=False)
        self.o_proj = nn.Linear(H * K, D, bias=False)
        self.qkv: FusedLinears | None = None  # stands for the first three in a prepared model
        gate = HiddenStateGate if config.plt_gate_use_hidden_states else QueryGate
        self.plt_gate = gate(config) if config.has_gates else None

    def write(self, n_ND: Tensor, rows: Rows, kv: KVView) -> Tensor:
        """Keys and values of the rows after `input_layernorm`; returns their queries, [N, H, K]."""
        per_head = (-1, self.head_dim)
        q_NHK, k_NGK, v_NGK = (part.unflatten(-1, per_head) for part in self._project(n_ND))
        kv.write(self.index, apply_rope(k_NGK, rows), v_NGK)
        return apply_rope(q_NHK, rows)

    def forward(self, q_NHK: Tensor, residual_ND: Tensor, rows: Rows, kv: KVView) -> Tensor:
        """Queries, and the rows before `input_layernorm` for the gate: [N, D]."""
        y_NHK = kv.attend_global(self.index, q_NHK)
        if self.plt_gate is not None and rows.later < q_NHK.shape[0]:
            y_NHK = self._mix_local(y_NHK, q_NHK, residual_ND, rows.later, kv)
        projected: Tensor = self.o_proj(y_NHK.flatten(1))
        return projected

    def _project(self, n_ND: Tensor) -> tuple[Tensor, ...]:
        if self.qkv is not None:
            return self.qkv(n_ND)
        return self.q_proj(n_ND), self.k_proj(n_ND), self.v_proj(n_ND)

    def _mix_local(
        self, y_NHK: Tensor, q_NHK: Tensor, residual_ND: Tensor, later: int, kv: KVView
    ) -> Tensor:
        """y = g y_global + (1 - g) y_local for the rows of later loops."""
        assert self.plt_gate is not None
        y_local_MHK = kv.attend_local(self.index, q_NHK[later:])
        g_MH1 = self.plt_gate(residual_ND[later:], q_NHK[later:]).unsqueeze(-1)
        y_MHK = g_MH1 * y_NHK[later:] + (1 - g_MH1) * y_local_MHK
        return y_MHK if later == 0 else torch.cat([y_NHK[:later], y_MHK])


class MLP(nn.Module):
    """SwiGLU."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        D, F = config.hidden_size, config.intermediate_size
        self.gate_proj = nn.Linear(D, F, bias=False)
        self.up_proj = nn.Linear(D, F, bias=False)
        self.down_proj = nn.Linear(F, D, bias=False)
        self.gate_up: FusedLinears | None = None  # stands for the first two in a prepared model

    def forward(self, n_ND: Tensor) -> Tensor:
        """[N, D] to [N, D]."""
        gate_NF, up_NF = self._project(n_ND)
        projected: Tensor = self.down_proj(silu(gate_NF) * up_NF)
        return projected

    def _project(self, n_ND: Tensor) -> tuple[Tensor, ...]:
        if self.gate_up is not None:
            return self.gate_up(n_ND)
        return self.gate_proj(n_ND), self.up_proj(n_ND)


class Layer(nn.Module):
    """Pre-norm attention and MLP around a residual stream."""

    def __init__(self, config: ModelConfig, index: int) -> None:
        super().__init__()
        D, eps = config.hidden_size, config.rms_norm_eps
        self.input_layernorm = nn.RMSNorm(D, eps=eps)
        self.self_attn = Attention(config, index)
        self.post_attention_layernorm = nn.RMSNorm(D, eps=eps)
        self.mlp = MLP(config)

    def forward(self, x_ND: Tensor, rows: Rows, kv: KVView) -> Tensor:
        """[N, D] to [N, D], or to fewer rows where `rows.kept` says so."""
        q_NHK = self.self_attn.write(self.input_layernorm(x_ND), rows, kv)
        kept = rows.kept.get(self.self_attn.index)
        if kept is not None:
            x_ND, q_NHK, rows = x_ND[kept.index_N], q_NHK[kept.index_N], kept.rows
        x_ND = x_ND + self.self_attn(q_NHK, x_ND, rows, kv)
        out_ND: Tensor = x_ND + self.mlp(self.post_attention_layernorm(x_ND))
        return out_ND
