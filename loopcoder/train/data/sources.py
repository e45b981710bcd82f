"""The projects of a recipe: every source's files, filtered, with what is known about the source."""

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from sysconfig import get_path
from typing import Any

from loopcoder.errors import DataError
from loopcoder.train.data import licences
from loopcoder.train.data.archive import Entry, TreeHash, archive_entries, folder_entries
from loopcoder.train.data.files import (
    KINDS,
    Document,
    decode,
    kind_and_language,
    refuse_path,
    refuse_text,
    strip_licence_header,
)
from loopcoder.train.data.index import SdistIndex
from loopcoder.train.data.progress import Progress
from loopcoder.train.data.rank import by_rank
from loopcoder.train.data.recipe import DataRecipe, Files, Folder
from loopcoder.train.data.tally import Tally


@dataclass(frozen=True, kw_only=True)
class Source:
    """One project: where it came from and under which licence; `refusal` says why it is left out.

    `sha256` is that of the archive, or of the paths and contents read from a folder.
    """

    name: str
    version: str | None
    sha256: str
    licence: str
    refusal: str | None = None

    def record(self) -> dict[str, Any]:
        """The fields for the manifest."""
        return asdict(self)


def gather(
    recipe: DataRecipe, base: Path, tally: Tally, progress: Progress
) -> tuple[list[Source], list[Document]]:
    """Read every source of the recipe, in its order. Raises `DataError` for one that is missing.

    `base` is the folder that relative paths in the recipe start from.
    """
    index = SdistIndex()
    sources: list[Source] = []
    documents: list[Document] = []
    total = len(recipe.packages) + len(recipe.folders)
    for source, found in progress.track("reading", _read_all(recipe, base, index, tally), total):
        sources.append(source)
        documents += _within_cap(found, recipe, tally)
    if not documents:
        raise DataError(f"recipe {recipe.name}: no file of any source is usable; add sources")
    return sources, documents


def _read_all(
    recipe: DataRecipe, base: Path, index: SdistIndex, tally: Tally
) -> Iterator[tuple[Source, list[Document]]]:
    for pin in recipe.packages:
        yield read_package(pin, recipe, index, tally)
    for folder in recipe.folders:
        yield read_folder(folder, base, recipe.files, tally)


def read_package(
    pin: str, recipe: DataRecipe, index: SdistIndex, tally: Tally
) -> tuple[Source, list[Document]]:
    """One source package; without documents if its licence is not allowed."""
    name, version = pin.split("==")
    archive = index.fetch(pin)
    pkg_info: bytes | None = None
    documents = []
    for entry in archive_entries(archive.path):
        if entry.path == "PKG-INFO":
            pkg_info = entry.read()
        elif document := _consider(name, entry, recipe.files, tally):
            documents.append(document)
    verdict = licences.judge(pkg_info, recipe.licences or licences.PERMISSIVE)
    source = Source(
        name=name,
        version=version,
        sha256=archive.sha256,
        licence=verdict.licence,
        refusal=verdict.refusal,
    )
    if verdict.refusal:
        tally.drop_documents(documents, "licence")
        documents = []
    return source, documents


def read_folder(
    folder: Folder, base: Path, limits: Files, tally: Tally
) -> tuple[Source, list[Document]]:
    """One local folder; its licence is what the recipe states."""
    root = base / folder.path.replace("{stdlib}", get_path("stdlib"))
    tree = TreeHash()
    documents = []
    for entry in folder_entries(root):
        kind = kind_and_language(entry.path)
        if kind and folder.kind in ("both", kind[0]):
            tree.add(entry.path, entry.read())
            if document := _consider(folder.name, entry, limits, tally):
                documents.append(document)
    source = Source(name=folder.name, version=None, sha256=tree.hexdigest(), licence=folder.licence)
    return source, documents


def _consider(project: str, entry: Entry, limits: Files, tally: Tally) -> Document | None:
    """The entry as a document, or None and a note in the tally."""
    kind = kind_and_language(entry.path)
    if kind is None:
        return None
    reason = refuse_path(entry.path) or ("too large" if entry.size > limits.max_bytes else None)
    text = None
    if reason is None:
        text = decode(entry.read())
        reason = "not UTF-8" if text is None else None
    if text is not None:
        if limits.strip_licence_headers and kind[0] == "code":
            text = strip_licence_header(text, kind[1])
        text = text.strip("\n") + "\n"
        reason = refuse_text(text, limits)
    if reason is not None or text is None:
        tally.drop(project, reason or "", entry.size)
        return None
    return Document(project=project, path=entry.path, kind=kind[0], language=kind[1], text=text)


def _within_cap(
    documents: Iterable[Document], recipe: DataRecipe, tally: Tally
) -> Iterator[Document]:
    """As many files of each kind as fit the project's cap, by rank, in their old order."""
    documents = list(documents)
    room = dict.fromkeys(KINDS, recipe.files.max_project_bytes)
    chosen: set[str] = set()
    for document in by_rank(documents, recipe.seed):
        if document.size <= room[document.kind]:
            room[document.kind] -= document.size
            chosen.add(document.path)
    for document in documents:
        if document.path in chosen:
            yield document
        else:
            tally.drop(document.project, "project cap", document.size)
