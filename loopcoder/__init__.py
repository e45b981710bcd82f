"""LoopCoder: run, train and dissect looped language models.

`import loopcoder` is light: torch and transformers load with the first name that needs them.
"""

from typing import TYPE_CHECKING, Any

from loopcoder.errors import LoopCoderError
from loopcoder.types import SamplingParams

if TYPE_CHECKING:
    from loopcoder.engine.llm import LLM

__version__ = "0.1.0"
__all__ = ["LLM", "LoopCoderError", "SamplingParams", "__version__"]


def __getattr__(name: str) -> Any:
    """Load `LLM` (and with it torch) when it is first asked for (PEP 562)."""
    if name == "LLM":
        from loopcoder.engine.llm import LLM

        return LLM
    raise AttributeError(f"module 'loopcoder' has no attribute {name!r}")
