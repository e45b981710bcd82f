"""One fixed, seeded shuffle for every choice among documents: the hash of where they come from."""

import hashlib
from collections.abc import Iterable

from loopcoder.train.data.files import Document


def rank(seed: int, *parts: str) -> bytes:
    """A key that orders names as if at random, the same on every machine."""
    return hashlib.sha256("\0".join((str(seed), *parts)).encode()).digest()


def by_rank(documents: Iterable[Document], seed: int) -> list[Document]:
    """The documents in an order that looks random and depends only on seed, project and path."""
    return sorted(documents, key=lambda item: rank(seed, item.project, item.path))
