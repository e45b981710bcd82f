"""The whole measurement: samples in, rows out, in one pass whose memory does not grow with them."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

import numpy as np
import torch

from loopcoder.errors import GenerationError, RequestError
from loopcoder.model import cost
from loopcoder.model.config import ModelConfig
from loopcoder.model.plt import PLT
from loopcoder.probes.observe import Array, Observed, Place, ProbeOptions, observe
from loopcoder.probes.samples import Sample
from loopcoder.probes.spread import Spread, interval
from loopcoder.records.measures import MEASURES
from loopcoder.records.rows import CostRow, MatrixRow, MeasureRow, NoteRow, Row, SampleRow, Source

_NO_SPECTRUM: type[Exception] = torch.linalg.LinAlgError  # type: ignore[attr-defined]  # of NaN
_ATTENTION = tuple(name for name in MEASURES if name.startswith(("attention_", "head_")))


def probe(
    model: PLT,
    samples: Iterable[Sample],
    source: Source,
    *,
    loops: int | None = None,
    options: ProbeOptions | None = None,
    batch: int = 1,
) -> Iterator[Row]:
    """Every row of the table in SPEC.md section 5, of `samples` of one length.

    A `SampleRow` comes with each sample, as soon as it is measured, so the caller sees progress;
    after the last, the `MeasureRow`s with intervals over documents, `MatrixRow`s, `CostRow`s of
    1 .. max(loops, 4) loops, and a `NoteRow` for each measure that this model does not have.
    Ending `samples` early ends the measurement with what there is. `batch` samples share a pass.

    Raises `RequestError` if the model cannot run `loops` or the samples differ in length, and
    `GenerationError` if the model gives something that is not a number.
    """
    options = options or ProbeOptions()
    loops = model.model.check_loops(loops)
    tally = _Tally(loops)
    length = 0
    iterator = iter(samples)
    while chunk := list(islice(iterator, batch)):
        length = length or len(chunk[0].token_ids)
        _check(chunk, length, options, model.config.vocab_size)
        device = model.model.embed_tokens.weight.device
        token_BT = torch.tensor([list(s.token_ids) for s in chunk], device=device)
        try:
            observed = observe(model, token_BT, loops, options)
        except _NO_SPECTRUM as error:
            raise _no_number(chunk[0]) from error
        for b, sample in enumerate(chunk):
            tally.add(sample.document, observed, b)
            yield _sample_row(source, sample, observed, b, loops)
    if not tally.spreads:
        raise RequestError("there are no samples; give at least one")
    yield from tally.rows(source, options)
    if model.config.max_position_embeddings >= length:
        yield from _costs(source, model, length, max(loops, 4))
    yield from _notes(source, model, loops, length, options)


def _check(samples: Sequence[Sample], length: int, options: ProbeOptions, vocabulary: int) -> None:
    for sample in samples:
        if len(sample.token_ids) != length:
            raise RequestError(
                f"the sample from {sample.document} has {len(sample.token_ids)} tokens, the first "
                f"had {length}; effective rank depends on the length, so give samples of one length"
            )
    largest = max(max(sample.token_ids) for sample in samples)
    if largest >= vocabulary:
        raise RequestError(
            f"the samples hold token {largest}, the model knows {vocabulary} tokens; give text "
            "that was encoded for this model"
        )
    if length - options.conventions.first_token < 2:
        raise RequestError(
            f"samples of {length} tokens with first_token "
            f"{options.conventions.first_token} leave nothing to measure; give longer ones"
        )


def _sample_row(
    source: Source, sample: Sample, observed: Observed, b: int, loops: int
) -> SampleRow:
    nats_R = observed.nats_RB[:, b]
    if not np.isfinite(nats_R).all():
        raise _no_number(sample)
    return SampleRow(
        source=source,
        document=sample.document,
        start=sample.start,
        tokens=len(sample.token_ids) - 1,
        bytes=sample.bytes,
        loops=loops,
        nats=nats_R.tolist(),
        values={name: values[:, b].tolist() for name, values in observed.by_loop.items()},
    )


def _no_number(sample: Sample) -> GenerationError:
    return GenerationError(
        f"the model's prediction for {sample.document}, token {sample.start}, is not a number; "
        "try --dtype float32, or check the weights"
    )


class _Tally:
    """Running means of everything, by measure, loop and layer."""

    def __init__(self, loops: int) -> None:
        self.loops = loops
        self.spreads: dict[Place, Spread] = {}
        self.similarity: dict[tuple[int, int], Spread] = {}

    def add(self, document: str, observed: Observed, b: int) -> None:
        """Take sample `b` of a pass."""
        for name, values in observed.by_loop.items():
            first = MEASURES[name].first_loop
            for i, value in enumerate(values[:, b]):
                self.spreads.setdefault((name, first + i, -1), Spread()).add(document, value)
        for place, head_values in observed.by_head.items():
            self.spreads.setdefault(place, Spread()).add(document, head_values[b])
        for at, matrix in observed.similarity.items():
            self.similarity.setdefault(at, Spread()).add(document, matrix[b])

    def rows(self, source: Source, options: ProbeOptions) -> Iterator[Row]:
        """The summary, in the order of the table."""
        order = list(MEASURES)
        for place in sorted(self.spreads, key=lambda p: (order.index(p[0]), *p[1:])):
            name, loop, layer = place
            spread = self.spreads[place]
            documents = spread.documents()
            low, high = interval(documents)
            yield MeasureRow(
                source=source,
                measure=name,
                loop=loop,
                layer=None if layer < 0 else layer,
                mean=_plain(documents.mean),
                low=None if low is None else _plain(low),
                high=None if high is None else _plain(high),
                sd=None if spread.samples.sd is None else _plain(spread.samples.sd),
                samples=spread.samples.n,
                documents=documents.n,
                loops=self.loops,
                conventions=options.conventions.of(name),
            )
        for (loop, layer), spread in sorted(self.similarity.items()):
            mean = spread.documents().mean
            yield MatrixRow(
                source=source,
                loop=loop,
                layer=layer,
                mean=np.round(mean, 4).tolist(),
                samples=spread.samples.n,
                loops=self.loops,
            )


def _plain(value: Array) -> float | list[float]:
    plain: float | list[float] = np.asarray(value).tolist()
    return plain


def _costs(source: Source, model: PLT, length: int, most: int) -> Iterator[CostRow]:
    """By formula; of a model without gates, as if it had them, from two loops on."""
    config = model.config
    nbytes = model.model.embed_tokens.weight.element_size()
    for loops in range(1, most + 1):
        yield CostRow(
            source=source,
            loops=loops,
            context=length,
            decode_flops=cost.decode_flops(config, length, loops).total,
            prefill_flops=cost.prefill_flops(config, length, loops).total,
            training_flops=cost.training_flops(config, length, loops).total // length,
            kv_bytes=cost.kv_bytes(config, length, loops, nbytes),
            carried_bytes=cost.carried_bytes(config, loops, nbytes),
        )


def _notes(
    source: Source, model: PLT, loops: int, length: int, options: ProbeOptions
) -> Iterator[NoteRow]:
    config = model.config
    for measure, text in _absent(config, loops, options):
        yield NoteRow(source=source, measure=measure, text=text)
    for text in _said_of_all(config, loops, length):
        yield NoteRow(source=source, text=text)


def _absent(config: ModelConfig, loops: int, options: ProbeOptions) -> Iterator[tuple[str, str]]:
    """Why a measure has no rows."""
    if loops == 1:
        for name, measure in MEASURES.items():
            if measure.first_loop > 1:
                yield name, "it compares loops, and one loop was run"
    if config.plt_num_loops == 1:
        yield "fixed_point_gap", "a model of one loop has no gates, so no second loop can be run"
    elif not options.fixed_point:
        yield "fixed_point_gap", "not asked for"
    if not options.attention:
        for name in _ATTENTION:
            if MEASURES[name].first_loop <= loops:
                yield name, "not asked for"
    elif config.num_attention_heads == 1:
        yield "head_cosine", "it compares heads, and the model has one"
    if loops > 1:
        yield from _absent_of_variant(config, options)


def _absent_of_variant(config: ModelConfig, options: ProbeOptions) -> Iterator[tuple[str, str]]:
    if config.plt_loop_offset == 0:
        yield "offset_cost", "each loop reads the token's own state, so no offset is paid for"
    if not config.plt_gated_window:
        yield "gate", "the later loops have no window, so nothing is mixed"
        if options.attention:
            yield "attention_entropy_local", "the later loops have no window"


def _said_of_all(config: ModelConfig, loops: int, length: int) -> Iterator[str]:
    """What to know of all rows."""
    own = config.plt_num_loops
    if config.variant:
        yield f"the model is a variant of the released architecture: {config.variant_text}"
    if loops > own:
        yield f"the model was trained with {own} loops; what the loops after do was not trained"
    if length <= config.window and loops > 1 and config.plt_gated_window:
        yield (
            f"samples of {length} tokens lie within the window of {config.window} keys: "
            "global and local attention see the same positions"
        )
