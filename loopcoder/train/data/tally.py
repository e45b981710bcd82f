"""What became of every file: kept, or dropped and why, for each project."""

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from loopcoder.train.data.files import Document

Counts = dict[str, int]


def _zero() -> Counts:
    return {"files": 0, "bytes": 0}


class Tally:
    """Counts of files and bytes for each project and reason."""

    def __init__(self) -> None:
        self._dropped: dict[str, dict[str, Counts]] = defaultdict(lambda: defaultdict(_zero))

    def drop(self, project: str, reason: str, size: int) -> None:
        """One file of `size` bytes was left out."""
        counts = self._dropped[project][reason]
        counts["files"] += 1
        counts["bytes"] += size

    def drop_documents(self, documents: Iterable[Document], reason: str) -> None:
        """Documents that had been kept so far were left out."""
        for document in documents:
            self.drop(document.project, reason, document.size)

    def dropped(self, project: str) -> dict[str, Counts]:
        """Reason to counts, in the order of the reasons' names."""
        return {reason: dict(counts) for reason, counts in sorted(self._dropped[project].items())}

    def total(self) -> dict[str, Counts]:
        """Reason to counts over all projects."""
        total: dict[str, Counts] = defaultdict(_zero)
        for reasons in self._dropped.values():
            for reason, counts in reasons.items():
                total[reason]["files"] += counts["files"]
                total[reason]["bytes"] += counts["bytes"]
        return dict(sorted(total.items()))


def count_kept(documents: Iterable[Document]) -> dict[str, dict[str, Counts]]:
    """Project to kind to counts of the documents that are in the corpus."""
    kept: dict[str, dict[str, Counts]] = {}
    for document in documents:
        counts = kept.setdefault(document.project, {}).setdefault(document.kind, _zero())
        counts["files"] += 1
        counts["bytes"] += document.size
    return kept


def kind_bytes(documents: Iterable[Document]) -> dict[str, Any]:
    """Documents and bytes by kind, code bytes by language, for one split."""
    count = 0
    sizes = {"code": 0, "text": 0}
    languages: dict[str, int] = defaultdict(int)
    for document in documents:
        size = document.size
        count += 1
        sizes[document.kind] += size
        languages[document.language] += size
    return {
        "documents": count,
        "bytes": sizes["code"] + sizes["text"],
        "code_bytes": sizes["code"],
        "text_bytes": sizes["text"],
        "bytes_by_language": dict(sorted(languages.items())),
    }
