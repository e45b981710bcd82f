import asyncio

import pytest

from loopcoder.eval.judge.evalplus import EVALPLUS
from tests.eval.data import DATA, needs_data
from tests.eval.judge.evalplus_parity import (
    FILES,
    READERS,
    disagreements,
    evalplus_statuses,
    our_verdicts,
    samples,
)
from tests.eval.judge.running import needs_bubblewrap

# Their references take long, or come near a limit of time: the whole comparison has them.
LONG = {"HumanEval/15", "Mbpp/255", "Mbpp/392", "Mbpp/599", "Mbpp/271", "Mbpp/123", "Mbpp/603"}


@needs_data
@needs_bubblewrap
@pytest.mark.slow
@pytest.mark.skipif(
    EVALPLUS.interpreter() is None, reason="no EvalPlus: loopcoder eval setup evalplus"
)
@pytest.mark.parametrize("dataset", FILES)
def test_our_verdicts_are_those_of_evalplus(dataset, tmp_path):
    problems = READERS[dataset](DATA / FILES[dataset])
    spread = [problem for problem in problems[5::30] if problem.id not in LONG]
    todo = samples(spread, mutants_each=1)
    ours = asyncio.run(our_verdicts(todo, parallel=2))
    theirs = evalplus_statuses(dataset, todo, DATA, tmp_path, parallel=2)
    # A busy machine makes either of them run out of time: that is no rule of comparison.
    timely = [
        (sample, verdict, status)
        for sample, verdict, status in zip(todo, ours, theirs, strict=True)
        if verdict.reason != "timeout" and "timeout" not in status
    ]
    assert len(timely) > len(todo) / 2
    assert disagreements(dataset, *map(list, zip(*timely, strict=True))) == []
