"""Every benchmark that can be named, and what kind of run it takes."""

import difflib
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from loopcoder.errors import EvaluationError
from loopcoder.eval.environments import Environment
from loopcoder.eval.harness.base import Need

Kind = Literal["task", "heldout", "harness"]
HELDOUT = "heldout"
NOT_SERVED = "http://127.0.0.1/v1"  # for questions that are asked before there is a server


def menu() -> dict[str, Kind]:
    """Names that `loopcoder eval` takes, in the order they are listed."""
    from loopcoder.eval.harness.registry import HARNESSES
    from loopcoder.eval.tasks.names import TASK_NAMES

    names: dict[str, Kind] = dict.fromkeys(TASK_NAMES, "task")
    names[HELDOUT] = "heldout"
    return names | dict.fromkeys(HARNESSES, "harness")


def kind_of(name: str) -> Kind:
    """Raises `EvaluationError` with the nearest name for one that is not there."""
    known = menu()
    if name in known:
        return known[name]
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
    raise EvaluationError(f"no benchmark is called {name!r}; {hint}")


def missing(name: str, data: Path | None) -> list[Need]:
    """What `name` lacks on this machine, each with its remedy."""
    kind = kind_of(name)
    if kind == "harness":
        from loopcoder.eval.harness.base import HarnessRun
        from loopcoder.eval.harness.registry import HARNESSES

        run = HarnessRun(model="", base_url=NOT_SERVED, api_key="", out=Path(), data=data)
        return [need for need in HARNESSES[name].needs(run) if not need.found]
    if kind == "heldout":
        return []
    from loopcoder.eval.bfcl import BFCL
    from loopcoder.eval.sandbox.bubblewrap import bubblewrap
    from loopcoder.eval.tasks.names import files_of

    checks: dict[str, Callable[[], object]] = {
        "its file": lambda: files_of(name, data),
        "bubblewrap": bubblewrap,
    }
    if name == "bfcl":
        checks = {"its checker": BFCL.require}
    found = []
    for what, check in checks.items():
        try:
            check()
        except EvaluationError as error:
            found.append(Need(what=what, found=False, remedy=str(error)))
    return found


def environment(name: str) -> Environment:
    """The environment of that name. Raises `EvaluationError` with all names."""
    from loopcoder.eval.bfcl import BFCL, BFCL_V3
    from loopcoder.eval.harness.registry import HARNESSES
    from loopcoder.eval.judge.evalplus import EVALPLUS

    own = [harness.environment for harness in HARNESSES.values() if harness.environment]
    known = {each.name: each for each in (BFCL, BFCL_V3, EVALPLUS, *own)}
    if name not in known:
        raise EvaluationError(
            f"no environment is called {name!r}; there are {', '.join(sorted(known))}"
        )
    return known[name]
