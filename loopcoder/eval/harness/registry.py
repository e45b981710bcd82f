"""Every benchmark with a harness of its own, by the name that the user types."""

from loopcoder.eval.harness.base import Harness
from loopcoder.eval.harness.bigcodebench import BigCodeBench
from loopcoder.eval.harness.livecodebench import LiveCodeBench
from loopcoder.eval.harness.mind2web import Mind2Web
from loopcoder.eval.harness.multipl_e import MultiPLE
from loopcoder.eval.harness.swe_bench import MULTILINGUAL, VERIFIED
from loopcoder.eval.harness.terminal_bench import TerminalBench1, TerminalBench2

_ALL: tuple[Harness, ...] = (
    BigCodeBench(),
    LiveCodeBench(),
    MultiPLE(),
    VERIFIED,
    MULTILINGUAL,
    TerminalBench1(),
    TerminalBench2(),
    Mind2Web(),
)
HARNESSES: dict[str, Harness] = {harness.name: harness for harness in _ALL}
