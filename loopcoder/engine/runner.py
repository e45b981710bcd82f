"""One forward pass over the rows of a step, whatever sequences and loops they belong to."""

import time
from collections.abc import Sequence as Several

import torch
from torch import Tensor

from loopcoder.cache.paged import PagedMemory
from loopcoder.cache.states import HandedStates
from loopcoder.cache.wave import Run, Wave, WaveKV
from loopcoder.engine.gates import NewestGates, gates_of, watched
from loopcoder.engine.graphs import GraphedLayers
from loopcoder.engine.sequence import Sequence
from loopcoder.engine.wavefront import Span, Wavefront
from loopcoder.kernels.paged import graphable
from loopcoder.model.layers import Kept, Rows
from loopcoder.model.plt import PLT, LoopState
from loopcoder.model.products import invariant_products


class Runner:
    """Runs spans on a model over paged memory, and keeps what loops hand on.

    `model_seconds` is the time spent in layers and head; on a GPU, in starting their kernels.
    `rows_by_loop` counts the rows that entered the first layer, by loop; `prefill_rows_by_loop`
    those of them that belonged to prompts.
    """

    def __init__(
        self, model: PLT, memory: PagedMemory, states: HandedStates, wavefront: Wavefront
    ) -> None:
        self.model = model
        self.memory = memory
        self.states = states
        self.wavefront = wavefront
        self.gates = NewestGates()
        self._products = invariant_products(model)
        shape = memory.shape
        self._graphed: GraphedLayers | None = None
        if graphable(shape.device, shape.head_dim):
            self._graphed = GraphedLayers(model.model.run_layers)
        self.model_seconds = 0.0
        self.rows_by_loop: dict[int, int] = {}
        self.prefill_rows_by_loop: dict[int, int] = {}

    @torch.inference_mode()
    def forward(self, spans: Several[Span]) -> "StepStates":
        """Run the spans' rows through all layers; keys, values and handed-on states are kept."""
        self._hold_rows_apart(spans)
        self._assign(spans)
        runs = {self._run(span): span for span in spans}
        wave = Wave(list(runs), self.model.config.num_hidden_layers)
        ordered = [runs[run] for run in wave.runs]
        x_ND = self._inputs(wave, ordered)
        rows, kv = self._rows(wave), WaveKV(self.memory, wave)
        begun = time.perf_counter()
        if any(map(watched, spans)):
            with gates_of(self.model.model) as gates:
                state = self.model.model.run_layers(x_ND, rows, kv)
            self.gates.keep(wave, ordered, gates)
        elif self._graphed is not None and kv.decoding:
            state = self._graphed(x_ND, rows, kv)
        else:
            state = self.model.model.run_layers(x_ND, rows, kv)
        self.model_seconds += time.perf_counter() - begun
        self._hand_on(wave, ordered, state)
        self._count(spans)
        return StepStates(wave, ordered, state.h)

    def _hold_rows_apart(self, spans: Several[Span]) -> None:
        """A seed promises one text: products then round a row the same in any company."""
        invariant = any(span.sequence.request.seeded for span in spans)
        for product in self._products:
            product.invariant = invariant

    def logits(self, h_BD: Tensor) -> Tensor:
        """The head on last-loop states: [B, V]."""
        begun = time.perf_counter()
        logits_BV: Tensor = self.model.lm_head(h_BD)
        self.model_seconds += time.perf_counter() - begun
        return logits_BV

    def logits_before(self, sequences: Several[Sequence]) -> list[Tensor]:
        """The head on loops 1..R-1 of each sequence's newest token: [R - 1, V] each."""
        earlier = [sequence.loops - 1 for sequence in sequences]
        slot = [s.slot for s, count in zip(sequences, earlier, strict=True) for _ in range(count)]
        loop = [loop for count in earlier for loop in range(count)]
        h_ED = self.states.newest_SRD[slot, loop]
        if not slot:  # products are for rows
            return [h_ED.new_empty(0, self.model.config.vocab_size) for _ in sequences]
        if not self.model.config.plt_normalize_per_loop:
            h_ED = self.model.model.norm(h_ED)
        return list(self.logits(h_ED).split(earlier))

    def _assign(self, spans: Several[Span]) -> None:
        for span in spans:
            holding = span.sequence.holding
            assert holding is not None
            if holding.moved:
                self.memory.assign(span.sequence.slot, holding.pages, holding.rings)
                holding.moved = False

    def _run(self, span: Span) -> Run:
        sequence = span.sequence
        assert sequence.holding is not None
        return Run(
            slot=sequence.slot,
            loop=span.loop,
            start=span.start,
            stop=span.stop,
            lows=self.wavefront.lows(span),
            stored=sequence.holding.stored,
            single=not sequence.prefilling,
        )

    def _inputs(self, wave: Wave, spans: list[Span]) -> Tensor:
        """x^1 = E of loop 1's rows, then x^r = a E + b h^{r-1}_{t-1} of the later loops'."""
        token = [t for span in spans for t in span.sequence.tokens[span.start : span.stop]]
        device = self.memory.shape.device
        E_ND = self.model.model.embed(torch.tensor(token, device=device))
        later = wave.places[0].later
        if later == len(E_ND):
            return E_ND
        together, waiting = self._by_source(wave.single_later, wave.behind)
        parts = []
        if together:
            slot, before = [run.slot for run in together], [run.loop - 1 for run in together]
            parts.append(self.states.newest_SRD[slot, before])
        parts += [self.states.before(r.slot, r.loop, r.start, r.stop) for r in waiting]
        h_before_MD = parts[0] if len(parts) == 1 else torch.cat(parts)
        return torch.cat([E_ND[:later], self.model.model.mix(E_ND[later:], h_before_MD)])

    def _by_source(self, single: list[Run], chunks: list[Run]) -> tuple[list[Run], list[Run]]:
        """Runs whose loops meet in one step, and those whose states wait for a later step."""
        return ([], [*single, *chunks]) if self.wavefront.serial else (single, chunks)

    def _rows(self, wave: Wave) -> Rows:
        """Row descriptions for the first layer, and for those after rows dropped out."""
        device, dtype = self.memory.shape.device, self.model.model.norm.weight.dtype
        position_N = torch.from_numpy(wave.positions()).to(device)
        kept: dict[int, Kept] = {}
        whole = self.model.model.rows(position_N, dtype, wave.places[0].later)
        rows = Rows(cos_NK=whole.cos_NK, sin_NK=whole.sin_NK, later=whole.later, kept=kept)
        now = rows
        for layer in range(wave.layers):
            index = wave.kept(layer)
            if index is not None:
                index_N = torch.from_numpy(index).to(device)
                now = Rows(
                    cos_NK=now.cos_NK[index_N],
                    sin_NK=now.sin_NK[index_N],
                    later=wave.places[layer + 1].later,
                    kept=kept,
                )
                kept[layer] = Kept(index_N=index_N, rows=now)
        return rows

    def _hand_on(self, wave: Wave, spans: list[Span], state: LoopState) -> None:
        """Keep what loops 1..R-1 hand to the next: of decoding sequences in one assignment."""
        h_ND = self.model.model.handed_on(state)
        places = wave.places[wave.layers]
        laid = [*places.ahead, *places.behind]
        single = [*wave.single, *wave.single_later]
        row = {run: places.single + number for number, run in enumerate(single)}
        together, waiting = self._by_source(single, [])
        if together:
            self.states.reserve(max(run.loop for run in together))
            read = [run for run in together if run.loop < self.states.newest_SRD.shape[1]]
            at = [row[run] for run in read]
            slot, loop = [run.slot for run in read], [run.loop for run in read]
            self.states.newest_SRD[slot, loop] = h_ND[at]
        laid += [(run, row[run], row[run] + 1) for run in waiting]
        read_on = {
            r for r, s in zip(wave.runs, spans, strict=True) if s.loop < s.sequence.loops - 1
        }
        for run, begin, end in laid:
            if run in read_on:  # nobody would ever take away what the last loop leaves
                self.states.after(run.slot, run.loop, run.first(wave.layers), h_ND[begin:end])

    def _count(self, spans: Several[Span]) -> None:
        for span in spans:
            loop = span.loop + 1
            self.rows_by_loop[loop] = self.rows_by_loop.get(loop, 0) + span.rows
            if span.sequence.prefilling:
                count = self.prefill_rows_by_loop
                count[loop] = count.get(loop, 0) + span.rows


class StepStates:
    """The rows that a step left: h [N, D] after the final norm, found by sequence."""

    def __init__(self, wave: Wave, spans: list[Span], h_ND: Tensor) -> None:
        self.h_ND = h_ND
        places = wave.places[wave.layers]
        laid = dict.fromkeys(wave.runs, (0, 0))
        laid |= {run: (at, stop) for run, at, stop in (*places.ahead, *places.behind)}
        for number, run in enumerate((*wave.single, *wave.single_later)):
            laid[run] = (places.single + number, places.single + number + 1)
        self._rows = {
            (span.sequence, span.loop): (*laid[run], run.first(wave.layers))
            for run, span in zip(wave.runs, spans, strict=True)
        }

    def last(self, sequences: Several[Sequence]) -> Tensor:
        """The newest row of each sequence's last loop: [B, D]."""
        rows = [self._rows[sequence, sequence.loops - 1][1] - 1 for sequence in sequences]
        return self.h_ND[rows]

    def prompt(self, span: Span) -> tuple[int, Tensor]:
        """The rows of a span that went through all layers: their first token, and h [T, D]."""
        at, stop, first = self._rows[span.sequence, span.loop]
        return first, self.h_ND[at:stop]
