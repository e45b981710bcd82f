"""Keys and values of the serial schedule: all tokens of loop 1, then all of loop 2, and so on."""

from torch import Tensor

from loopcoder.kernels.attention import AttentionBackend
from loopcoder.kernels.masks import causal_mask
from loopcoder.kernels.window import window_attention
from loopcoder.model.config import ModelConfig
from loopcoder.model.layout import Layout

KeysValues = tuple[Tensor, Tensor]


class SerialKV:
    """Loop 1's keys and values of every layer, kept for the later loops of one forward pass."""

    def __init__(self, layout: Layout, config: ModelConfig, backend: AttentionBackend) -> None:
        self.batch, self.tokens = layout.position_BT.shape
        self.document_BT = layout.document_BT
        self.window = config.window
        self.share = config.plt_share_kv
        self.backend = backend
        self.first_loop: dict[int, KeysValues] = {}
        self.causal_BTT = (
            None if layout.document_BT is None else causal_mask(layout.document_BT, self.tokens)
        )

    def loop(self, loop: int) -> "SerialLoopKV":
        """The view for the rows of one loop (0-based)."""
        own = self.first_loop if loop == 0 else {}
        return SerialLoopKV(self, own, self.first_loop if self.share else own)

    def per_sequence(self, x_NHK: Tensor) -> Tensor:
        """[N, H, K] rows as [B, T, H, K]."""
        x_BTHK: Tensor = x_NHK.unflatten(0, (self.batch, self.tokens))
        return x_BTHK


class SerialLoopKV:
    """A `KVView` whose rows are all tokens of one loop.

    By layer, `own` are the keys and values that the loop writes, and `read` those that its global
    attention reads: loop 1's, or its own where loops do not share.
    """

    def __init__(
        self, shared: SerialKV, own: dict[int, KeysValues], read: dict[int, KeysValues]
    ) -> None:
        self.shared, self.own, self.read = shared, own, read

    def write(self, layer: int, k_NGK: Tensor, v_NGK: Tensor) -> None:
        """See `KVView.write`."""
        if self.own is not self.shared.first_loop:
            self.own.clear()  # a later loop's own live for one layer only
        self.own[layer] = (self.shared.per_sequence(k_NGK), self.shared.per_sequence(v_NGK))

    def attend_global(self, layer: int, q_NHK: Tensor) -> Tensor:
        """See `KVView.attend_global`."""
        k_BTGK, v_BTGK = self.read[layer]
        y_BTHK = self.shared.backend.attend(
            self.shared.per_sequence(q_NHK),
            k_BTGK,
            v_BTGK,
            mask_BTS=self.shared.causal_BTT,
            causal=self.shared.causal_BTT is None,
        )
        return y_BTHK.flatten(0, 1)

    def attend_local(self, layer: int, q_MHK: Tensor) -> Tensor:
        """See `KVView.attend_local`."""
        k_BTGK, v_BTGK = self.own[layer]
        y_BTHK = window_attention(
            self.shared.backend,
            self.shared.per_sequence(q_MHK),
            k_BTGK,
            v_BTGK,
            self.shared.window,
            self.shared.document_BT,
        )
        return y_BTHK.flatten(0, 1)
