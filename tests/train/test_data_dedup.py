import random

import numpy as np

from loopcoder.train.data.dedup import NearDuplicates, deduplicate, shingle_hashes
from loopcoder.train.data.files import Document
from loopcoder.train.data.progress import Progress
from loopcoder.train.data.recipe import Dedup
from loopcoder.train.data.tally import Tally

from .data_helpers import code_file


def document(project: str, text: str) -> Document:
    return Document(project=project, path="a.py", kind="code", language="python", text=text)


def run(texts: dict[str, str]) -> tuple[list[str], dict[str, dict[str, int]]]:
    tally = Tally()
    documents = [document(project, text) for project, text in texts.items()]
    kept = deduplicate(documents, Dedup(), tally, Progress(quiet=True))
    return [item.project for item in kept], tally.total()


def test_the_first_of_equal_texts_stays_whatever_the_blanks() -> None:
    text = code_file(random.Random(1))
    kept, dropped = run({"first": text, "again": text.replace("    ", "\t"), "other": "x = 1\n"})
    assert kept == ["first", "other"]
    assert dropped["duplicate"]["files"] == 1


def test_a_small_edit_is_a_near_duplicate_and_another_file_is_not() -> None:
    text = code_file(random.Random(1), functions=20)
    edited = text.replace("return", "yield", 2) + "\n\nDONE = True\n"
    others = {f"other{seed}": code_file(random.Random(seed), 20) for seed in range(2, 12)}
    kept, dropped = run({"first": text, "edited": edited, **others})
    assert kept == ["first", *others]
    assert dropped["near-duplicate"]["files"] == 1


def test_the_threshold_decides() -> None:
    lines = code_file(random.Random(1), functions=40).split("\n")
    half = "\n".join(lines[: len(lines) * 3 // 4])
    for threshold, expected in ((0.5, True), (0.95, False)):
        near = NearDuplicates(Dedup(threshold=threshold))
        assert not near.seen("\n".join(lines))
        assert near.seen(half) is expected


def test_the_estimate_is_near_the_true_similarity() -> None:
    first, second = (set(range(start, start + 3000)) for start in (0, 1000))
    one, two = (" ".join(f"w{number}" for number in sorted(words)) for words in (first, second))
    shingles = [set(shingle_hashes(text, 1).tolist()) for text in (one, two)]
    true = len(shingles[0] & shingles[1]) / len(shingles[0] | shingles[1])
    assert abs(true - 0.5) < 0.01


def test_shingles_depend_on_the_order_of_words() -> None:
    assert len(shingle_hashes("a b c d e f", 5)) == 2
    assert not np.intersect1d(shingle_hashes("a b c d e", 5), shingle_hashes("e d c b a", 5)).size
    assert len(shingle_hashes("a b", 5)) == 1
    assert len(shingle_hashes("", 5)) <= 1
