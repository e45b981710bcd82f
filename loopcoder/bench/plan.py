"""What is compared: workloads, cases and the engines that run them. No torch."""

from dataclasses import asdict, dataclass
from typing import Any

from loopcoder.errors import RequestError
from loopcoder.model.config import ModelConfig

OURS = "loopcoder"
PEERS = ("transformers", "vllm", "llama.cpp")

# What a peer calls the format that answers our --quantization; a missing one is not compared.
PEER_FORMATS: dict[str, dict[str | None, str]] = {
    "transformers": {None: "bf16"},
    "vllm": {None: "bf16"},
    "llama.cpp": {None: "bf16", "int8": "Q8_0", "int4": "Q4_K_M"},
}


@dataclass(frozen=True, kw_only=True)
class Workload:
    """What one measurement does.

    decode: one token for each of `sequences` sequences after `prompt` tokens. prefill: `prompt`
    tokens read, up to the first token's logits. throughput: `sequences` prompts of `prompt` tokens
    that arrive together, `output` tokens each.
    """

    kind: str
    sequences: int = 1
    prompt: int
    output: int = 1

    @property
    def tokens(self) -> int:
        """Tokens that a measurement's time stands for: read in prefill, written otherwise."""
        return self.prompt if self.kind == "prefill" else self.sequences * self.output

    def positions(self, measurements: int) -> int:
        """The longest a sequence gets when all `measurements` of a case are made."""
        steps = measurements if self.kind == "decode" else 1
        return self.prompt + self.output * steps + 1


@dataclass(frozen=True, kw_only=True)
class Case:
    """One line of the table: an engine, what its weights are stored as, and how it loops.

    `prefill` is "tail" or "full" where that is what is compared. A peer is a dense model: one loop,
    no `schedule`.
    """

    engine: str = OURS
    loops: int = 1
    quantization: str | None = None
    schedule: str | None = "parallel"
    prefill: str | None = None

    @property
    def name(self) -> str:
        """As it stands in the table: `R2 parallel`, `R2 tail int8`, `llama.cpp Q8_0`."""
        if self.engine != OURS:
            return f"{self.engine} {PEER_FORMATS[self.engine][self.quantization]}"
        words = (f"R{self.loops}", self.prefill or self.schedule, self.quantization)
        return " ".join(word for word in words if word)


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A process to be: an engine, a format of its weights, and the cases that it runs."""

    engine: str
    quantization: str | None
    cases: tuple[Case, ...]
    python: str | None = None


@dataclass(frozen=True, kw_only=True)
class Job:
    """The model and settings that every worker of a comparison gets; JSON all through.

    `model` is a checkpoint, whose weights only our engine loads, or None for random weights.
    `positions` and `sequences` are the longest and the most that will be asked for.
    """

    config: ModelConfig
    model: str | None
    dtype: str
    device: str
    threads: int
    positions: int
    sequences: int

    def message(self, subject: Subject) -> dict[str, Any]:
        """The arguments of the worker's `load`."""
        return {**asdict(self), "quantization": subject.quantization}


def our_cases(
    loops: tuple[int, ...],
    quantizations: tuple[str | None, ...],
    schedules: tuple[str, ...] = ("parallel",),
    prefills: tuple[str | None, ...] = (None,),
) -> list[Case]:
    """Every combination. One loop is the same in any schedule, so it is measured once."""
    return [
        Case(loops=n, quantization=q, schedule=schedule, prefill=prefill)
        for q in quantizations
        for n in loops
        for schedule in (schedules if n > 1 else schedules[:1])
        for prefill in (prefills if n > 1 else prefills[:1])
    ]


def subjects(cases: list[Case], peers: tuple[str, ...], pythons: dict[str, str]) -> list[Subject]:
    """Our cases by format, each followed by the peers that have such a format."""
    found: list[Subject] = []
    for quantization in dict.fromkeys(case.quantization for case in cases):
        ours = tuple(case for case in cases if case.quantization == quantization)
        found.append(Subject(engine=OURS, quantization=quantization, cases=ours))
        found += [
            Subject(
                engine=peer,
                quantization=quantization,
                cases=(Case(engine=peer, quantization=quantization, schedule=None),),
                python=pythons.get(peer),
            )
            for peer in peers
            if quantization in PEER_FORMATS[peer]
        ]
    return found


def check_peers(names: tuple[str, ...]) -> tuple[str, ...]:
    """The names, or `RequestError` for one that is no peer."""
    for name in names:
        if name not in PEERS:
            raise RequestError(f"--peer has {name!r}; it can be {', '.join(PEERS)}")
    return names
