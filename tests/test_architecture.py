"""Imports point to a lower layer only; packages of one layer do not import each other.

The table is DESIGN's, with reading and writing checkpoints as a layer of its own: the engine and
the trainer need it, and it must not load transformers' model classes as `loopcoder.hf` does.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "loopcoder"

LAYERS: tuple[frozenset[str], ...] = (
    frozenset({"errors", "home"}),
    frozenset({"types", "records", "depth"}),
    frozenset({"kernels"}),
    frozenset({"model", "cache"}),
    frozenset({"checkpoint"}),
    frozenset({"hf", "engine"}),
    frozenset({"train"}),
    frozenset({"probes", "loopcount"}),
    frozenset({"bench", "eval", "report", "server"}),
    frozenset({"study"}),
    frozenset({"cli", "recipes"}),
)
# What a package must not know of although it stands higher.
FORBIDDEN = {("train", "engine"), ("server", "train")}
TORCH_FREE = {"errors", "home", "types", "records", "depth", "loopcount", "report"}


def _layer(part: str) -> int:
    for number, parts in enumerate(LAYERS):
        if part in parts:
            return number
    raise AssertionError(f"loopcoder/{part} stands in no layer; add it to LAYERS")


def _part(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def _modules() -> list[Path]:
    top = {"__init__.py", "__main__.py"}
    return [p for p in sorted(PACKAGE.rglob("*.py")) if str(p.relative_to(PACKAGE)) not in top]


def _imports(path: Path) -> Iterator[tuple[str, bool]]:
    """Module names that a file imports, and whether for type checking only."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    typing_only = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, id(node) in typing_only) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module or "", id(node) in typing_only


@pytest.mark.parametrize("path", _modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_down(path: Path) -> None:
    part = _part(path)
    for name, _ in _imports(path):
        if not name.startswith("loopcoder."):
            continue
        other = name.split(".")[1]
        assert other == part or _layer(other) < _layer(part), f"{path} imports {name}"
        assert (part, other) not in FORBIDDEN, f"{path} imports {name}"


@pytest.mark.parametrize("part", sorted(TORCH_FREE))
def test_these_run_without_torch(part: str) -> None:
    for path in _modules():
        if _part(path) == part:
            names = [name for name, typing in _imports(path) if not typing]
            assert not any(name.split(".")[0] == "torch" for name in names), path


def test_files_are_small() -> None:
    long = {
        str(path.relative_to(PACKAGE)): lines
        for path in _modules()
        if (lines := len(path.read_text(encoding="utf-8").splitlines())) > 400
    }
    assert not long, f"files over 400 lines: {long}"


def test_functions_are_short() -> None:
    long = [
        f"{path.relative_to(PACKAGE)}:{node.name}"
        for path in _modules()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (node.end_lineno or 0) - node.body[0].lineno + 1 > 60
    ]
    assert not long, f"function bodies over 60 lines: {long}"
