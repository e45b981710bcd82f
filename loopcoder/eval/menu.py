"""Every benchmark that can be named, and what kind of run it takes."""

import difflib
from pathlib import Path
from typing import Literal

from loopcoder.errors import EvaluationError
from loopcoder.eval.environments import Environment

Kind = Literal["task", "heldout", "harness"]
HELDOUT = "heldout"


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


def missing(name: str, data: Path | None) -> list[str]:
    """What `name` lacks on this machine, each with its remedy."""
    kind = kind_of(name)
    if kind == "harness":
        from loopcoder.eval.harness.base import HarnessRun
        from loopcoder.eval.harness.registry import HARNESSES

        run = HarnessRun(model="", base_url="", api_key="", out=Path(), data=data)
        needs = HARNESSES[name].needs(run)
        return [f"{need.what}: {need.remedy}" for need in needs if not need.found]
    if kind == "heldout":
        return [] if data else ["text: --data DIR with text files or a built corpus"]
    from loopcoder.eval.sandbox.bubblewrap import bubblewrap
    from loopcoder.eval.tasks.names import files_of

    found = []
    for check in (lambda: files_of(name, data), bubblewrap):
        try:
            check()
        except EvaluationError as error:
            found.append(str(error))
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
