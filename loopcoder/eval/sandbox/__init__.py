"""Where a model's code runs: bubblewrap with limits, or, if it was typed, no sandbox at all."""

from loopcoder.eval.sandbox.bubblewrap import Bubblewrap, bubblewrap, cores
from loopcoder.eval.sandbox.local import unsafe_local

__all__ = ["Bubblewrap", "bubblewrap", "cores", "unsafe_local"]
