"""The transformers classes; importing this registers the architecture.

After `import loopcoder.hf`, `AutoConfig` and `AutoModelForCausalLM` know `iquestpltcoder`, so the
released repository, which ships no modelling code, loads without `trust_remote_code`.
"""

from transformers import AutoConfig, AutoModelForCausalLM

from loopcoder.hf.configuration import PLTCoderConfig
from loopcoder.hf.modeling import IQuestPLTCoderForCausalLM

AutoConfig.register(PLTCoderConfig.model_type, PLTCoderConfig)
AutoModelForCausalLM.register(PLTCoderConfig, IQuestPLTCoderForCausalLM)

__all__ = ["IQuestPLTCoderForCausalLM", "PLTCoderConfig"]
