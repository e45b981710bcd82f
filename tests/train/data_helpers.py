"""Small corpora made up on the spot, the same ones every time."""

import random
from pathlib import Path

WORDS = [
    "alpha",
    "buffer",
    "cursor",
    "delta",
    "engine",
    "filter",
    "graph",
    "header",
    "index",
    "joint",
    "kernel",
    "ledger",
    "matrix",
    "needle",
    "offset",
    "parser",
    "queue",
    "router",
    "socket",
    "tensor",
    "update",
    "vector",
    "window",
    "xray",
    "yield",
    "zone",
]


def code_file(rng: random.Random, functions: int = 6) -> str:
    """Python that no other call makes."""
    parts = ['"""Routines for the {} of a {}."""\n'.format(*rng.sample(WORDS, 2))]
    for _ in range(functions):
        name, first, second = rng.sample(WORDS, 3)
        parts.append(
            f"\n\ndef {name}_{first}({first}, {second}={rng.randrange(999)}):\n"
            f"    for {name} in range({rng.randrange(99)}):\n"
            f"        if {first}.{rng.choice(WORDS)} > {second} * {rng.randrange(9999)}:\n"
            f"            return {rng.choice(WORDS)}({first}, {rng.choice(WORDS)}={second})\n"
            f"    return {second}.{rng.choice(WORDS)}\n"
        )
    return "".join(parts)


def text_file(rng: random.Random, sentences: int = 12) -> str:
    """Prose of a sort, naïve and accented."""
    title = rng.choice(WORDS).title()
    body = " ".join(
        "The {} of each {} naïvely holds a {};\nsee the {}.".format(*rng.sample(WORDS, 4))
        for _ in range(sentences)
    )
    return f"{title}\n{'=' * len(title)}\n\n{body}\n"


def write_project(folder: Path, name: str, files: int = 8) -> None:
    """A project of `files` code files and half as many of text below `folder`/`name`."""
    rng = random.Random(name)
    (folder / name / "docs").mkdir(parents=True)
    for number in range(files):
        (folder / name / f"mod{number}.py").write_text(code_file(rng), encoding="utf-8")
        if number % 2 == 0:
            path = folder / name / "docs" / f"page{number}.rst"
            path.write_text(text_file(rng), encoding="utf-8")


def write_recipe(folder: Path, projects: int = 6, extra: str = "") -> Path:
    """A recipe over that many made-up projects, all below `folder`."""
    lines = ['name = "made-up"', "seed = 3"]
    for number in range(projects):
        name = f"project{number}"
        write_project(folder, name)
        lines += ["[[folders]]", f'name = "{name}"', f'path = "{name}"', 'licence = "MIT"']
    lines += ["[heldout]", "fraction = 0.2", "min_projects = 1"]
    lines += ["[mix]", "text = 1", "code = 3", "max_bytes = 1000000"]
    lines += ["[tokenizer]", "vocab_size = 512", "[shards]", "tokens = 5000", extra]
    path = folder / "recipe.toml"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path
