"""Whether the engines of a comparison fit in memory together. No torch."""

from loopcoder.bench.peers.dense import matrix_values
from loopcoder.bench.plan import Job, Subject
from loopcoder.model import cost
from loopcoder.records import available_bytes

_PROCESS = 2_000_000_000  # Python, torch, an engine's buffers, what a plain read reads
_SHARE = 0.95  # of what is available; the rest stays for everything else

_BYTES_A_VALUE = {"int8": 1.06, "int4": 0.63}  # with scales; llama.cpp's Q4_K_M has some in 6 bits


def subject_bytes(subject: Subject, job: Job) -> int:
    """Roughly what a worker takes: weights, embedding, keys and values, the process itself."""
    config = job.config
    wide = 4 if job.dtype == "float32" and subject.engine == "loopcoder" else 2
    matrices = matrix_values(vars(config)) * _BYTES_A_VALUE.get(subject.quantization or "", wide)
    embedding = config.vocab_size * config.hidden_size * wide
    loops = max(case.loops for case in subject.cases)
    kept = job.sequences * len(subject.cases) * cost.kv_bytes(config, job.positions, loops, wide)
    return int(matrices) + embedding + kept + _PROCESS


def fit(subjects: list[Subject], job: Job) -> bool:
    """Whether all of them can be loaded at once."""
    room = available_bytes()
    return room is None or sum(subject_bytes(s, job) for s in subjects) <= _SHARE * room
