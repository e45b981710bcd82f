"""The per-loop measures by name: what each means, its unit and its axes (SPEC.md section 5).

Loops are numbered 1..R. u^r is the residual stream of the last layer before the final norm, h^r the
state after it, p^r the prediction made from h^r; h^0 = u^0 = E, the embedding.
"""

from dataclasses import dataclass
from typing import Literal

Axes = Literal["loop", "layer", "head"]  # a head's value belongs to a layer, a layer's to a loop


@dataclass(frozen=True, kw_only=True)
class Measure:
    """One row of the table in SPEC.md section 5."""

    name: str
    title: str
    unit: str
    axes: Axes
    first_loop: int  # the first loop that it is defined for
    definition: str


_TABLE = (
    Measure(
        name="loss",
        title="Loss",
        unit="nats per token",
        axes="loop",
        first_loop=1,
        definition="mean -log p^r(next token): the model's loss if it stopped after loop r",
    ),
    Measure(
        name="step_size",
        title="Step size",
        unit="norm",
        axes="loop",
        first_loop=1,
        definition="mean over tokens of |u^r - u^{r-1}|",
    ),
    Measure(
        name="update_angle",
        title="Update angle",
        unit="cosine",
        axes="loop",
        first_loop=2,
        definition="mean over tokens of cos(u^r - u^{r-1}, u^{r-1} - u^{r-2}): 1 the same "
        "direction, below 0 oscillating",
    ),
    Measure(
        name="effective_rank",
        title="Effective rank",
        unit="directions",
        axes="loop",
        first_loop=1,
        definition="exp(entropy of the normalised singular values) of a sample's normalised states",
    ),
    Measure(
        name="fixed_point_gap",
        title="Fixed-point gap",
        unit="norm",
        axes="loop",
        first_loop=1,
        definition="mean over tokens of |u^r - f(u^r)|, f one more loop",
    ),
    Measure(
        name="offset_cost",
        title="Offset cost Ω",
        unit="norm",
        axes="loop",
        first_loop=2,
        definition="mean over tokens of |h^{r-1}_t - h^{r-1}_{t-1}|: what reading the state one "
        "token back replaces",
    ),
    Measure(
        name="output_shift",
        title="Output shift Δp",
        unit="nats",
        axes="loop",
        first_loop=2,
        definition="mean over tokens of KL(p^r | p^{r-1})",
    ),
    Measure(
        name="truth_rank",
        title="Truth rank",
        unit="rank",
        axes="loop",
        first_loop=1,
        definition="median over tokens of the next token's rank in p^r; 1 is the top",
    ),
    Measure(
        name="output_entropy",
        title="Output entropy",
        unit="nats",
        axes="loop",
        first_loop=1,
        definition="mean over tokens of the entropy of p^r",
    ),
    Measure(
        name="peak_share",
        title="Peak loop",
        unit="share of tokens",
        axes="loop",
        first_loop=2,
        definition="share of tokens whose output shift is largest at loop r",
    ),
    Measure(
        name="gate",
        title="Gate",
        unit="weight on the global branch",
        axes="head",
        first_loop=2,
        definition="mean over tokens of g: 1 reads loop 1's memory only, 0 the own window only",
    ),
    Measure(
        name="attention_entropy_global",
        title="Global attention entropy",
        unit="nats",
        axes="head",
        first_loop=1,
        definition="mean over queries of the entropy of attention to loop 1's keys",
    ),
    Measure(
        name="attention_entropy_local",
        title="Local attention entropy",
        unit="nats",
        axes="head",
        first_loop=2,
        definition="mean over queries of the entropy of attention within the loop's own window",
    ),
    Measure(
        name="attention_entropy_mixed",
        title="Mixed attention entropy",
        unit="nats",
        axes="head",
        first_loop=1,
        definition="mean over queries of the entropy of g A_global + (1 - g) A_local; in loop 1, "
        "of its full attention",
    ),
    Measure(
        name="attention_shift",
        title="Attention shift",
        unit="nats",
        axes="head",
        first_loop=2,
        definition="mean over queries of KL(A^r | A^{r-1}) of the mixed maps, by key position",
    ),
    Measure(
        name="head_rank",
        title="Head diversity",
        unit="effective heads",
        axes="layer",
        first_loop=1,
        definition="mean over queries of the effective rank of the heads x keys matrix",
    ),
    Measure(
        name="head_cosine",
        title="Head similarity",
        unit="cosine",
        axes="layer",
        first_loop=1,
        definition="mean over queries of the cosine between the maps of two heads, over all pairs",
    ),
)

MEASURES: dict[str, Measure] = {measure.name: measure for measure in _TABLE}
