"""From a checkpoint and text to a record file: what `loopcoder probe` and the study run."""

import os
import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, current_thread, main_thread
from typing import TYPE_CHECKING

from loopcoder.checkpoint.identity import checkpoint_hash
from loopcoder.checkpoint.load import load_model
from loopcoder.checkpoint.locate import locate
from loopcoder.checkpoint.tokenizer import load_tokenizer
from loopcoder.engine.device import usable_device
from loopcoder.engine.vocabulary import TokenTexts
from loopcoder.errors import DataError, RecordError, file_errors
from loopcoder.model.plt import PLT
from loopcoder.probes.identity import source_of
from loopcoder.probes.observe import ProbeOptions
from loopcoder.probes.passage import read_passage
from loopcoder.probes.probe import probe
from loopcoder.probes.samples import Draw, Drawn, Sample, survey
from loopcoder.probes.texts import find_documents
from loopcoder.records.files import record_file
from loopcoder.records.rows import (
    DataIdentity,
    NoteRow,
    PassageRow,
    Row,
    SampleRow,
    Source,
)
from loopcoder.train.text import EncodedText, read_text

if TYPE_CHECKING:
    from transformers.tokenization_utils_base import PreTrainedTokenizerBase

RECORDS = "probe.jsonl"


@dataclass(frozen=True, kw_only=True)
class ProbeSettings:
    """What `run_probe` measures; the fields are the command's options.

    `name` is what records call the model, by default what it is found by; `arm` as in
    `ModelIdentity`.
    """

    model: str
    out: Path
    data: Sequence[Path] = ()
    samples: int = 64
    length: int = 512
    per_document: int = 1
    seed: int = 0
    loops: int | None = None
    options: ProbeOptions = field(default_factory=ProbeOptions)
    batch: int = 1
    passage: Path | None = None  # text for the token view; without it, the first sample's
    passage_tokens: int = 192
    dtype: str = "auto"
    device: str = "auto"
    force: bool = False
    command: str | None = None
    name: str | None = None
    arm: str | None = None


@dataclass(frozen=True, kw_only=True)
class Probed:
    """The file that was written, and its rows but those of single samples."""

    path: Path
    rows: list[Row]
    interrupted: bool


Report = Callable[[int, int], None]  # samples done, samples in all


def run_probe(settings: ProbeSettings, report: Report = lambda done, total: None) -> Probed:
    """Measure, and write `out/probe.jsonl`; an interrupt ends it early with what is measured.

    Text and file are checked before the model is loaded. Raises `RecordError` if the file exists
    and `force` is not set, and as the parts do for a model, text or option that cannot be used.
    """
    path = settings.out / RECORDS
    with file_errors(RecordError, "choose a directory that can be written"):
        exists = path.exists()
    if exists and not settings.force:
        raise RecordError(f"{path} exists; give another --out, or --force to measure again")
    directory = locate(settings.model)
    tokenizer = load_tokenizer(directory)
    draw = Draw(
        documents=find_documents(settings.data, tokenizer, directory),
        length=settings.length,
        count=settings.samples,
        seed=settings.seed,
        per_document=settings.per_document,
    )
    drawn = survey(draw)
    passage = _passage(settings, tokenizer, draw)
    model = _load(settings, directory)
    source = source_of(
        model,
        name=settings.name or _name(settings.model),
        data=DataIdentity(name=draw.documents.name, hash=drawn.hash, length=draw.length),
        model_hash=checkpoint_hash(directory),
        seed=settings.seed,
        command=settings.command,
        arm=settings.arm,
    )
    kept: list[Row] = []
    done = 0
    with record_file(path) as file, _interruptible() as stop:
        rows = probe(
            model,
            _until(stop, draw),
            source,
            loops=settings.loops,
            options=settings.options,
            batch=settings.batch,
        )
        for row in rows:
            file.write(row)
            if isinstance(row, SampleRow):
                done += 1
                report(done, drawn.samples)
            else:
                kept.append(row)
        extras: list[Row] = [_read_passage(model, tokenizer, passage, source, settings.loops)]
        extras += [NoteRow(source=source, text=text) for text in _shortfalls(settings, drawn, done)]
        for row in extras:
            file.write(row)
    return Probed(path=path, rows=[*kept, *extras], interrupted=done < drawn.samples)


def _name(model: str) -> str:
    """What the user typed, without where it lies; training calls every result `final`."""
    if not Path(model).expanduser().is_dir():
        return model
    path = Path(os.path.abspath(Path(model).expanduser()))
    return f"{path.parent.name}/{path.name}" if path.name == "final" else path.name


def _load(settings: ProbeSettings, directory: Path) -> PLT:
    model = load_model(directory, dtype=settings.dtype, device=usable_device(settings.device))
    most = model.config.max_position_embeddings
    if settings.length > most:
        raise DataError(f"--length is {settings.length}; the model has {most} positions")
    model.model.check_loops(settings.loops)
    return model


@dataclass(frozen=True, kw_only=True)
class _Passage:
    document: str
    token_ids: Sequence[int]


def _passage(
    settings: ProbeSettings, tokenizer: "PreTrainedTokenizerBase | None", draw: Iterable[Sample]
) -> _Passage:
    if settings.passage is None:
        first = next(iter(draw))
        return _Passage(
            document=first.document, token_ids=first.token_ids[: settings.passage_tokens]
        )
    if tokenizer is None:
        raise DataError("the checkpoint has no tokenizer, so --passage cannot be read")
    text = EncodedText(tokenizer, read_text(settings.passage))
    if len(text) < 2:
        raise DataError(f"{settings.passage}: fewer than two tokens; give a longer passage")
    token_ids = text.window(0, settings.passage_tokens).token_ids
    return _Passage(document=settings.passage.name, token_ids=token_ids)


def _read_passage(
    model: PLT,
    tokenizer: "PreTrainedTokenizerBase | None",
    passage: _Passage,
    source: Source,
    loops: int | None,
) -> PassageRow:
    text_of = str if tokenizer is None else TokenTexts(tokenizer).text
    return read_passage(
        model, passage.token_ids, text_of, source, document=passage.document, loops=loops
    )


def _shortfalls(settings: ProbeSettings, drawn: Drawn, done: int) -> Iterator[str]:
    if done < drawn.samples:
        yield f"interrupted: {done} of {drawn.samples} samples were measured"
    elif done < settings.samples:
        yield f"the text has {done} samples of {settings.length} tokens, {settings.samples} asked"
    if drawn.documents == 1:
        yield (
            "all samples are of one document, so there is no interval: samples of one document "
            "are not independent"
        )


def _until(stop: Event, samples: Iterable[Sample]) -> Iterator[Sample]:
    for sample in samples:
        yield sample
        if stop.is_set():
            return


@contextmanager
def _interruptible() -> Iterator[Event]:
    """Ctrl-C asks for an end; a second one, or one in another thread, acts as it always does."""
    stop = Event()
    if current_thread() is not main_thread():
        yield stop
        return
    before = signal.getsignal(signal.SIGINT)

    def ask(number: int, frame: object) -> None:
        stop.set()
        signal.signal(signal.SIGINT, before)

    signal.signal(signal.SIGINT, ask)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)
