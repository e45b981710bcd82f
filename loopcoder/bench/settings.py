"""Options of `loopcoder bench` as values: lists taken apart and checked. No torch."""

import os

from loopcoder.bench.plan import PEERS, check_peers
from loopcoder.errors import RequestError

Quantizations = tuple[str | None, ...]


def numbers(option: str, text: str) -> tuple[int, ...]:
    """`"1,2,4"` as numbers, each at least 1 and none twice."""
    try:
        found = tuple(int(word) for word in text.split(","))
    except ValueError as error:
        raise RequestError(f"{option} is {text!r}; give numbers such as 1,2") from error
    if min(found) < 1:
        raise RequestError(f"{option} is {text!r}; each number must be at least 1")
    return tuple(dict.fromkeys(found))


def words(option: str, text: str, known: tuple[str, ...]) -> tuple[str, ...]:
    """`"tail,full"` as words, each of them known."""
    found = tuple(dict.fromkeys(word.strip() for word in text.split(",")))
    for word in found:
        if word not in known:
            raise RequestError(f"{option} has {word!r}; it can be {', '.join(known)}, or several")
    return found


def float_format(text: str) -> str:
    """The value of --dtype, if there is such a format."""
    known = ("auto", "float32", "bfloat16")
    if text not in known:
        raise RequestError(f"--dtype is {text!r}; it can be {', '.join(known)}")
    return text


def quantizations(text: str) -> Quantizations:
    """`"none,int8"` as (None, "int8")."""
    found = words("--quantization", text, ("none", "int8", "int4"))
    return tuple(None if word == "none" else word for word in found)


def peers(text: str | None) -> tuple[str, ...]:
    """`"transformers,vllm"` as names; nothing for None."""
    return check_peers(tuple(dict.fromkeys(text.split(",")))) if text else ()


def peer_pythons(assignments: list[str]) -> dict[str, str]:
    """`["vllm=/path/python"]` by peer, after LOOPCODER_PEER_PYTHON_VLLM and the like."""
    found = {}
    for peer in PEERS:
        variable = f"LOOPCODER_PEER_PYTHON_{peer.upper().replace('.', '_')}"
        if path := os.environ.get(variable):
            found[peer] = path
    for assignment in assignments:
        peer, equals, path = assignment.partition("=")
        if not equals or not path:
            raise RequestError(f"--peer-python {assignment!r}: write it as vllm=PATH")
        check_peers((peer,))
        found[peer] = path
    return found


def positive(**options: int) -> None:
    """Raise `RequestError` for an option below 1."""
    for name, value in options.items():
        if value < 1:
            raise RequestError(f"--{name.replace('_', '-')} is {value}; it must be at least 1")


def thread_count(asked: int | None) -> int:
    """CPU threads: as asked, else one for each core this process may use."""
    if asked is not None:
        positive(threads=asked)
        return asked
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1
