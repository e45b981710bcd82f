"""Taps: what each loop of a running model computes, seen, and changed if wanted, where it happens.

The model is the real one, whoever calls it: forward hooks are set while a `Taps` is open and gone
after it. A loop is a repeated call of the same layers, so the hooks count the calls.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from loopcoder.errors import RequestError
from loopcoder.model.layers import Layer
from loopcoder.model.plt import PLTModel
from loopcoder.model.serial_kv import SerialLoopKV
from loopcoder.probes.attention import LayerAttention

SITES = ("embedding", "residual", "gate", "attention", "u", "h")
KEPT = ("embedding", "gate", "u", "h")


@dataclass(frozen=True)
class Site:
    """Where a value comes from: loops count from 1 (the embedding is loop 0), layers from 0."""

    name: str
    loop: int
    layer: int | None = None


Tap = Callable[[Any, Site], Tensor | None]
Seen = tuple[Tensor, Tensor | None]


class Taps:
    """Watches a PLT for the time of a `with` block.

    ```python
    with Taps(model) as taps:
        model(token_BT)
    taps.u[2] - taps.u[1]  # what loop 2 added: [B, T, D]
    taps.gate[2][0]        # its gates in the first layer: [B, T, H]
    ```

    Sites, by name:

    - `embedding`: E [B, T, D], which is also `u[0]` and `h[0]`;
    - `residual`: what enters a layer, [B, T, D];
    - `gate`: the weight on the global branch, [B, T, H], in loops 2 and up, if the model has one;
    - `attention`: a layer's queries, keys and gates as a `LayerAttention`;
    - `u`, `h`: the last layer's output before and after the final norm (SPEC.md section 5).

    `keep` names the sites whose values stay in the object; a new forward pass starts anew. `on`
    names functions that are called with each value and its `Site`; a tensor that one returns takes
    the value's place (not for `attention`, which is there to be looked at).

    Raises `RequestError` for a site that does not exist, and, when the model runs, for a run that
    is no whole forward pass: one that decodes with a cache runs its loops side by side.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        keep: Collection[str] = KEPT,
        on: Mapping[str, Tap] | None = None,
    ) -> None:
        unknown = sorted({*keep, *(on or {})} - set(SITES))
        if unknown:
            raise RequestError(f"no tap is called {unknown[0]!r}; there are: {', '.join(SITES)}")
        inner = model if isinstance(model, PLTModel) else getattr(model, "model", None)
        if not isinstance(inner, PLTModel):
            raise RequestError(
                f"taps were given a {type(model).__name__}; give a PLT, its PLTModel, or the "
                "transformers class of loopcoder.hf"
            )
        self.model = inner
        self._keep, self._on = frozenset(keep), dict(on or {})
        self._handles: list[RemovableHandle] = []
        self._start((0, 0))

    def _start(self, shape: tuple[int, ...]) -> None:
        self.loops = 0
        self._shape = shape
        self._gate: Tensor | None = None
        self.u: dict[int, Tensor] = {}
        self.h: dict[int, Tensor] = {}
        self.gate: dict[int, list[Tensor]] = {}
        self.residual: dict[int, list[Tensor]] = {}
        self.attention: dict[int, list[LayerAttention]] = {}

    def __enter__(self) -> Self:
        """Set the hooks."""
        layers: Any = self.model.layers
        self._handles = [
            self.model.embed_tokens.register_forward_hook(self._embedded),
            layers[-1].register_forward_hook(self._layers_done),
            self.model.norm.register_forward_hook(self._normed),
        ]
        for layer in layers:
            self._handles.append(layer.register_forward_pre_hook(self._enters))
            attention = layer.self_attn
            if self._wanted("gate", "attention") and attention.plt_gate is not None:
                hook = self._gate_hook(attention.index)
                self._handles.append(attention.plt_gate.register_forward_hook(hook))
            if self._wanted("attention"):
                self._handles.append(attention.register_forward_hook(self._attended))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Take the hooks away; what was kept stays."""
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def _wanted(self, *names: str) -> bool:
        return any(name in self._keep or name in self._on for name in names)

    def _embedded(self, module: nn.Module, inputs: tuple[Tensor], E: Tensor) -> Tensor | None:
        if inputs[0].ndim != 2:
            raise RequestError(_NO_PASS)
        self._start(tuple(inputs[0].shape))
        changed = self._call("embedding", E, Site("embedding", 0))
        if "embedding" in self._keep:
            self.u[0] = self.h[0] = E if changed is None else changed
        return changed

    def _enters(self, layer: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...] | None:
        x_ND, rows, kv = inputs
        if rows.later not in (0, x_ND.shape[0]) or x_ND.shape[0] != self._tokens:
            raise RequestError(_NO_PASS)
        assert isinstance(layer, Layer)
        index = layer.self_attn.index
        self.loops += index == 0
        value, changed = self._see("residual", x_ND, index)
        if "residual" in self._keep:
            self.residual.setdefault(self.loops, []).append(value)
        return (changed, rows, kv) if changed is not None else None

    def _gate_hook(self, layer: int) -> Callable[..., Tensor | None]:
        def seen(module: nn.Module, inputs: tuple[Any, ...], g_NH: Tensor) -> Tensor | None:
            self._gate, changed = self._see("gate", g_NH, layer)
            if "gate" in self._keep:
                self.gate.setdefault(self.loops, []).append(self._gate)
            return changed

        return seen

    def _attended(self, module: Any, inputs: tuple[Any, ...], y_ND: Tensor) -> None:
        q_NHK, _, _, kv = inputs
        if not isinstance(kv, SerialLoopKV):
            raise RequestError(_NO_PASS)
        if kv.shared.document_BT is not None:
            raise RequestError(
                "attention is tapped of whole samples; run samples of one length, without padding "
                "and one document a row"
            )
        mixed = self.loops > 1 and module.plt_gate is not None
        seen = LayerAttention(
            q_BTHK=kv.shared.per_sequence(q_NHK),
            k_global_BTGK=kv.read[module.index][0],
            k_local_BTGK=kv.own[module.index][0] if mixed else None,
            gate_BTH=self._gate if mixed else None,
            window=kv.shared.window,
        )
        self._call("attention", seen, Site("attention", self.loops, module.index))
        if "attention" in self._keep:
            self.attention.setdefault(self.loops, []).append(seen)

    def _layers_done(self, module: nn.Module, inputs: Any, x_ND: Tensor) -> Tensor | None:
        value, changed = self._see("u", x_ND)
        if "u" in self._keep:
            self.u[self.loops] = value
        return changed

    def _normed(self, module: nn.Module, inputs: Any, x_ND: Tensor) -> Tensor | None:
        value, changed = self._see("h", x_ND)
        if "h" in self._keep:
            self.h[self.loops] = value
        return changed

    @property
    def _tokens(self) -> int:
        B, T = self._shape
        return B * T

    def _see(self, name: str, x_NX: Tensor, layer: int | None = None) -> Seen:
        """The rows [N, X] as [B, T, X] after the user's function, and the rows if it changed them.

        What is kept is detached from nothing: gradients flow through it where they are on.
        """
        value: Tensor = x_NX.unflatten(0, self._shape)
        changed = self._call(name, value, Site(name, self.loops, layer))
        return (value, None) if changed is None else (changed, changed.flatten(0, 1))

    def _call(self, name: str, value: Any, site: Site) -> Tensor | None:
        tap = self._on.get(name)
        changed = None if tap is None else tap(value, site)
        if changed is None or name == "attention":
            return None
        if not isinstance(changed, torch.Tensor) or changed.shape != value.shape:
            found = tuple(getattr(changed, "shape", ()))
            raise RequestError(
                f"the tap on {name} returned {type(changed).__name__} {found}; return a tensor "
                f"{tuple(value.shape)}, or None to leave the value as it is"
            )
        return changed


_NO_PASS = (
    "taps watch whole forward passes, all loops of [B, T] tokens one after another; "
    "call model(token_ids) without a cache"
)
