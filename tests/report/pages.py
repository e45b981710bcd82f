"""Pages for the tests, and a reader of what they hold."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from html.parser import HTMLParser

from loopcoder.loopcount.runs import Evidence, as_run, published_run
from loopcoder.records.rows import AnyRow
from loopcoder.report.page import render
from tests.loopcount.study import evidence_of
from tests.report.rows import probe_rows
from tests.report.study import study_files

VOID = {"meta", "link", "br", "img", "input", "hr"}


def page(*runs: Sequence[AnyRow]) -> str:
    """The page of some runs, each as if from a file of its own."""
    return render(
        Evidence(runs=tuple(as_run(f"r{i}/probe.jsonl", rows) for i, rows in enumerate(runs)))
    )


def study_page(files: Mapping[str, Sequence[AnyRow]], *, papers: bool = True) -> str:
    """The page of a study's files, with the papers' values."""
    found = evidence_of(files)
    return render(replace(found, runs=(*found.runs, *([published_run()] if papers else []))))


@cache
def named(name: str) -> str:
    """One of `PAGES`, made once."""
    return PAGES[name]()


PAGES = {
    "r1": lambda: page(probe_rows(1)),
    "r2": lambda: page(probe_rows(2)),
    "r4": lambda: page(probe_rows(4)),
    "several": lambda: page(*(probe_rows(r, layers=3) for r in (1, 2, 3))),
    "published": lambda: page(published_run().rows),
    "study": lambda: study_page(study_files()),
    "study, no probes": lambda: study_page(study_files(probes=False)),
}


class Page(HTMLParser):
    """A page read back: elements with their attributes and texts; nesting is checked."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None], list[str]]] = []
        self.inside: dict[int, list[int]] = {}  # element to its ancestors
        self._open: list[int] = []
        self.feed(html)
        self.close()
        assert not self._open, f"never closed: {[self.elements[i][0] for i in self._open]}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.inside[len(self.elements)] = [*self._open]
        if tag not in VOID:
            self._open.append(len(self.elements))
        self.elements.append((tag, dict(attrs), []))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.inside[len(self.elements)] = [*self._open]
        self.elements.append((tag, dict(attrs), []))

    def handle_endtag(self, tag: str) -> None:
        assert self._open, f"</{tag}> closes nothing"
        last = self.elements[self._open.pop()][0]
        assert last == tag, f"</{tag}> within <{last}>"

    def handle_data(self, data: str) -> None:
        for i in self._open:
            self.elements[i][2].append(data)

    def find(self, tag: str, **attributes: str) -> list[int]:
        """Elements of a tag whose attributes have these values (class_ for class)."""
        wanted = {key.rstrip("_"): value for key, value in attributes.items()}
        return [
            i
            for i, (name, found, _) in enumerate(self.elements)
            if name == tag and all(found.get(k) == v for k, v in wanted.items())
        ]

    def within(self, outer: int, tag: str) -> list[int]:
        """Elements of a tag inside another."""
        return [i for i in self.find(tag) if outer in self.inside[i]]

    def text(self, i: int) -> str:
        """All text of an element."""
        return "".join(self.elements[i][2])

    def attributes(self, i: int) -> dict[str, str | None]:
        """Its attributes."""
        return self.elements[i][1]
