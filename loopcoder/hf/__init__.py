"""Hugging Face checkpoints and classes; importing this registers the architecture.

After `import loopcoder.hf`, `AutoConfig` and `AutoModelForCausalLM` know `iquestpltcoder`, so that
the released repository loads without `trust_remote_code`. The submodules that read and write
checkpoints need no transformers; the classes load with the first of their names.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from loopcoder.hf.configuration import PLTCoderConfig
    from loopcoder.hf.modeling import IQuestPLTCoderForCausalLM

__all__ = ["IQuestPLTCoderForCausalLM", "PLTCoderConfig"]
