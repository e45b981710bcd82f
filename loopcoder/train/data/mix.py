"""The stated proportions: text to code by bytes, and how much of the code is not Python."""

import math
from dataclasses import dataclass

from loopcoder.train.data.files import Document
from loopcoder.train.data.rank import by_rank
from loopcoder.train.data.recipe import Mix
from loopcoder.train.data.tally import Tally


@dataclass(frozen=True, kw_only=True)
class Budget:
    """Bytes allowed for each part of a split."""

    text: int
    python: int
    other_code: int


def mix(documents: list[Document], settings: Mix, seed: int, tally: Tally) -> list[Document]:
    """As many documents as the proportions and `max_bytes` allow, ordered by project and path.

    Which documents give way is decided by rank, so no project or folder is preferred.
    """
    sizes = dict.fromkeys(("text", "python", "other_code"), 0)
    for document in documents:
        sizes[_part(document)] += document.size
    budget = plan(sizes["text"], sizes["python"], sizes["other_code"], settings)
    room = {"text": budget.text, "python": budget.python, "other_code": budget.other_code}
    kept = []
    for document in by_rank(documents, seed):
        part = _part(document)
        if document.size <= room[part]:
            room[part] -= document.size
            kept.append(document)
        else:
            tally.drop(document.project, "mix", document.size)
    return sorted(kept, key=lambda document: (document.project, document.path))


def plan(text: int, python: int, other_code: int, settings: Mix) -> Budget:
    """Bytes for each part, out of what there is of each: the largest split in proportion."""
    share = settings.max_other_code
    most_other = python * share / (1 - share) if share < 1 else math.inf
    code = python + min(other_code, most_other)
    parts = settings.text + settings.code
    unit = settings.max_bytes / parts
    if settings.text:
        unit = min(unit, text / settings.text)
    if settings.code:
        unit = min(unit, code / settings.code)
    code_budget = unit * settings.code
    other_budget = min(other_code, code_budget * share)
    return Budget(
        text=int(unit * settings.text),
        python=int(code_budget - other_budget),
        other_code=int(other_budget),
    )


def _part(document: Document) -> str:
    if document.kind == "text":
        return "text"
    return "python" if document.language == "python" else "other_code"
