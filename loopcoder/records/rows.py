"""The rows of a record file: one measurement each, with all that is needed to take it again.

A row stands alone: schema version, command, package version, model, data, seed, machine and time
are in every one (INTERFACE.md, Files). Loops count from 1; layers and heads from 0.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

SCHEMA = 1


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class ModelIdentity(_Frozen):
    """Which model was measured.

    `hash` is of its weights and configuration; `architecture` of the configuration without what
    belongs to looping, so that models trained at several loop counts share it. `arm` names what
    else sets it apart from a study's main models, which have none: those alone are compared by
    their loop counts.
    """

    name: str
    hash: str
    architecture: str
    trained_loops: int
    parameters: int
    layers: int
    heads: int
    width: int
    window: int
    dtype: str
    arm: str | None = None


class DataIdentity(_Frozen):
    """Which text it was measured on: `hash` is of all token ids that were read, in order."""

    name: str
    hash: str
    length: int  # tokens of a sample


class Source(_Frozen):
    """Where a row comes from."""

    command: str
    version: str
    model: ModelIdentity | None = None
    data: DataIdentity | None = None
    seed: int | None = None
    machine: dict[str, Any]
    time: str  # ISO 8601, UTC
    citation: str | None = None  # for values that someone else published


class Row(_Frozen):
    """What all rows have."""

    schema_version: int = Field(default=SCHEMA, alias="schema", ge=SCHEMA, le=SCHEMA)
    source: Source

    model_config = ConfigDict(serialize_by_alias=True, populate_by_name=True)


Value = float | list[float]  # one number, or one for each head


class MeasureRow(Row):
    """A measure (see `records.measures`) of one loop, and of one layer where it has that axis.

    `low` and `high` bound the 95 % confidence interval of the mean over documents; `sd` is the
    spread over samples. All three are None where there is nothing to estimate them from (one
    document), or where the source does not give them. `conventions` are those it depends on.
    """

    kind: Literal["measure"] = "measure"
    measure: str
    loop: int
    layer: int | None = None
    mean: Value
    low: Value | None = None
    high: Value | None = None
    sd: Value | None = None
    samples: int | None = None
    documents: int | None = None
    loops: int  # how many the model ran
    conventions: dict[str, str | int | float | bool | None] = {}


class SampleRow(Row):
    """One sample: what paired comparisons of models, and of loops, are made from.

    `values` holds, by measure, the sample's own value at loops `first_loop` .. `loops`; `nats` the
    sum of -log p^r over its `tokens` predicted tokens, which stand for `bytes` bytes of text.
    Samples of one `document` are not independent of each other.
    """

    kind: Literal["sample"] = "sample"
    document: str
    start: int  # first token within the document
    tokens: int
    bytes: int
    loops: int
    nats: list[float]
    values: dict[str, list[float]]


class MatrixRow(Row):
    """Mean cosine between the attention maps of every two heads, [heads][heads]."""

    kind: Literal["matrix"] = "matrix"
    measure: Literal["head_similarity"] = "head_similarity"
    loop: int
    layer: int
    mean: list[list[float]]
    samples: int
    loops: int


class Candidate(_Frozen):
    """A token that a loop thought possible, and its probability."""

    text: str
    probability: float


class PassageToken(_Frozen):
    """A token of a passage, and what each loop (from 1) had expected in its place.

    `shift` is KL(p^r | p^{r-1}) in nats for loops 2..R; `rank` this token's own rank, 1 the top.
    The first token of a text is expected by nobody: its lists are empty.
    """

    text: str
    shift: list[float]
    entropy: list[float]
    rank: list[int]
    probability: list[float]
    candidates: list[list[Candidate]]


class PassageRow(Row):
    """A piece of text, token by token."""

    kind: Literal["passage"] = "passage"
    document: str
    loops: int
    tokens: list[PassageToken]


class CostRow(Row):
    """What a loop count costs by the formulas of `loopcoder.model.cost`; bytes in the dtype."""

    kind: Literal["cost"] = "cost"
    loops: int
    context: int  # tokens, for the FLOPs and for `kv_bytes`
    decode_flops: int  # of one token at that context
    prefill_flops: int  # of the context as a prompt
    training_flops: int  # of one token of a sequence of that length
    kv_bytes: int
    carried_bytes: int


class ScoreRow(Row):
    """A benchmark's result of a model run at `loops` (None: no looped model, or not known).

    `subject` names whose score it is where no model of ours is behind it (`source.model` is None).
    `samples` counts problems; `standard_error` is clustered by them.
    """

    kind: Literal["score"] = "score"
    task: str
    metric: str
    value: float
    unit: str
    loops: int | None = None
    subject: str | None = None
    samples: int | None = None
    standard_error: float | None = None


class AnswerRow(Row):
    """One answer to one problem: what paired comparisons of benchmark scores are made from.

    `scores` holds what it got, by the name of the score (1 right, 0 wrong; held-out text has bits a
    byte); it is empty where the answer could not be scored, and `reason` says why. Problems of
    one `cluster` (gaps in the same function) are not independent; None: this one is alone.
    """

    kind: Literal["answer"] = "answer"
    task: str
    problem: str
    sample: int = Field(ge=1)
    scores: dict[str, float]
    reason: str
    detail: str = ""
    cluster: str | None = None
    loops: int | None = None
    subject: str | None = None


class TrainingRow(Row):
    """A model that a study trained: on how much, at what cost, and how well it predicts.

    `arm` names what sets it apart from the study's other models of `loops` loops; `stage` is
    "trial" where a setting was tried for fewer steps, "run" where it was trained to the end.
    `settings` are the recipe's fields that were tried or chosen. `bits_per_byte` is held out, at
    `loops` loops; `by_loops` at each count of a model that was trained for several;
    `start_bits_per_byte` before the first step, of a model that goes on from another.
    """

    kind: Literal["training"] = "training"
    study: str
    arm: str
    stage: Literal["trial", "run"]
    loops: int
    seed: int
    parameters: int
    steps: int
    tokens: int
    flops: float
    seconds: float
    settings: dict[str, str | int | float | bool | list[int]] = {}
    bits_per_byte: float
    loss: float  # nats per predicted token
    by_loops: dict[int, float] = {}
    start_bits_per_byte: float | None = None


class DepthRow(Row):
    """Exact-match answers to one generated task (`loopcoder.depth`), run at `loops` loops.

    `right[i]` has a character for each question of `hops[i]` hops, in the order in which every
    model of the study was asked them: 1 right, 0 wrong. Training had questions of up to
    `trained_hops` hops. `mode` "direct" asks for the answer, "steps" for the steps before it too.
    """

    kind: Literal["depth"] = "depth"
    study: str
    arm: str
    seed: int
    loops: int
    task: str
    mode: Literal["direct", "steps"]
    trained_hops: int
    hops: list[int]
    right: list[str]


class TimingRow(Row):
    """A latency or memory that someone published; our own come from `loopcoder bench --json`."""

    kind: Literal["timing"] = "timing"
    case: str
    measured: Literal["decode_ms", "kv_megabytes"]
    loops: int
    value: float


class NoteRow(Row):
    """Something that was not measured, and why."""

    kind: Literal["note"] = "note"
    measure: str | None = None
    text: str


AnyRow = Annotated[
    MeasureRow
    | SampleRow
    | MatrixRow
    | PassageRow
    | CostRow
    | ScoreRow
    | AnswerRow
    | TrainingRow
    | DepthRow
    | TimingRow
    | NoteRow,
    Field(discriminator="kind"),
]
ROW: TypeAdapter[AnyRow] = TypeAdapter(AnyRow)
