"""The languages of MultiPL-E: which programs run each, and whether this machine has them."""

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from loopcoder.eval.harness.base import Need

JAVATUPLES = Path("/usr/multiple/javatuples-1.2.jar")  # where the harness looks for it


@dataclass(frozen=True, kw_only=True)
class Language:
    """`programs` as the harness calls them, `files` that it wants; `packages` are Debian's.

    `probe` ends with status 0 where the libraries are there that the tests load.
    """

    title: str
    programs: tuple[str, ...]
    packages: str
    files: tuple[Path, ...] = ()
    probe: tuple[str, ...] = ()


LANGUAGES = {
    "cpp": Language(title="C++", programs=("g++",), packages="g++"),
    "cs": Language(title="C#", programs=("csc", "mono"), packages="mono-complete"),
    "d": Language(title="D", programs=("rdmd",), packages="ldc or dmd (dlang.org)"),
    "go": Language(title="Go", programs=("go",), packages="golang"),
    "java": Language(
        title="Java",
        programs=("javac", "java"),
        packages="default-jdk",
        files=(JAVATUPLES,),
    ),
    "jl": Language(title="Julia", programs=("julia",), packages="julia (julialang.org)"),
    "js": Language(title="JavaScript", programs=("node",), packages="nodejs"),
    "lua": Language(
        title="Lua",
        programs=("lua",),
        packages="lua5.4 lua-unit",
        probe=("lua", "-e", "require('luaunit')"),
    ),
    "php": Language(title="PHP", programs=("php",), packages="php-cli"),
    "pl": Language(
        title="Perl",
        programs=("perl",),
        packages="perl libtest-deep-perl",
        probe=("perl", "-MTest::Deep", "-e", "1"),
    ),
    "py": Language(title="Python", programs=(), packages=""),  # the harness's own
    "r": Language(title="R", programs=("Rscript",), packages="r-base-core"),
    "rb": Language(
        title="Ruby",
        programs=("ruby",),
        packages="ruby ruby-test-unit",
        probe=("ruby", "-e", "require 'test/unit'"),
    ),
    "rkt": Language(title="Racket", programs=("racket",), packages="racket"),
    "rs": Language(title="Rust", programs=("rustc",), packages="rustc"),
    "scala": Language(title="Scala", programs=("scalac", "scala"), packages="scala"),
    "sh": Language(title="Bash", programs=("bash",), packages="bash"),
    "swift": Language(title="Swift", programs=("swiftc",), packages="swiftc (swift.org)"),
    "ts": Language(title="TypeScript", programs=("tsc", "node"), packages="nodejs node-typescript"),
}


def language_need(name: str) -> Need:
    """What compiles and runs it here."""
    language = LANGUAGES[name]
    missing = [program for program in language.programs if shutil.which(program) is None]
    missing += [str(path) for path in language.files if not path.exists()]
    if not missing and language.probe and _status(language.probe):
        missing.append(f"what `{' '.join(language.probe)}` loads")
    remedy = f"apt install {language.packages}, or leave {name} out of the option languages"
    if JAVATUPLES in language.files:
        remedy = f"org.javatuples:javatuples:1.2 at {JAVATUPLES}; {remedy}"
    return Need(
        what=f"{language.title} ({', '.join(missing or language.programs or ['its own'])})",
        found=not missing,
        remedy=remedy,
    )


def tools(name: str) -> tuple[list[Path], list[Path]]:
    """Directories to see, and directories of programs, for what lies outside /usr."""
    shown: list[Path] = []
    path: list[Path] = []
    for program in LANGUAGES[name].programs:
        found = _real_program(program)
        if found is not None and not found.is_relative_to("/usr"):
            shown.append(found.parent.parent)
            path.append(found.parent)
    return shown, path


def _status(command: tuple[str, ...]) -> int:
    return subprocess.run(command, capture_output=True, check=False).returncode


def _real_program(program: str) -> Path | None:
    found = shutil.which(program)
    if found is None:
        return None
    if program == "rustc":  # rustup puts a proxy in its place, which asks for the home directory
        asked = [found, "--print", "sysroot"]
        root = subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip()
        return Path(root) / "bin" / "rustc" if root else None
    return Path(found).resolve() if not Path(found).is_relative_to("/usr") else Path(found)
