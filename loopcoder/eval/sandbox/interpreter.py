"""Which parts of this Python a sandbox sees: the interpreter, its library, the packages named."""

import sys
import sysconfig
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from loopcoder.errors import EvaluationError


@dataclass(frozen=True)
class Interpreter:
    """`prefix` is shown as it is but for `sites`, whose only content are the `packages`."""

    python: Path
    prefix: Path
    sites: tuple[Path, ...]
    packages: tuple[Path, ...]


def find_interpreter(packages: tuple[str, ...]) -> Interpreter:
    """The Python that this one was made from (a virtual environment is not shown).

    Raises `EvaluationError` where a package is not installed here.
    """
    prefix = Path(sys.base_prefix)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    schemes = {"posix_prefix", "posix_local", "deb_system"} & set(sysconfig.get_scheme_names())
    base = {"base": str(prefix), "platbase": str(prefix)}
    sites = {
        Path(sysconfig.get_path(kind, scheme, vars=base))
        for scheme in sorted(schemes)
        for kind in ("purelib", "platlib")
    }
    shown = tuple(sorted(site for site in sites if site.is_dir()))
    if packages and not shown:
        raise EvaluationError(
            f"the Python of {prefix} has no directory for packages; {', '.join(packages)} cannot "
            "be shown in the sandbox"
        )
    return Interpreter(
        python=prefix / "bin" / version,
        prefix=prefix,
        sites=shown,
        packages=tuple(sorted({path for name in packages for path in _parts(name)})),
    )


def _parts(name: str) -> set[Path]:
    """The top-level files and directories of an installed distribution."""
    try:
        distribution = metadata.distribution(name)
    except metadata.PackageNotFoundError:
        raise EvaluationError(
            f"the sandbox is to show the package {name}, which is not installed; "
            f"`pip install {name}`"
        ) from None
    tops = {path.parts[0] for path in distribution.files or ()} - {"..", "__pycache__"}
    return {Path(str(distribution.locate_file(top))) for top in tops}
