"""What a checkpoint is and costs, from its configuration and headers alone. No torch."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from loopcoder.checkpoint.check import EMBEDDING, check_header
from loopcoder.checkpoint.config_file import CONFIG_FILE, parse_config, read_config_json
from loopcoder.checkpoint.dtypes import FORMATS, dtype_bytes
from loopcoder.checkpoint.header import CheckpointHeader, open_checkpoint
from loopcoder.checkpoint.locate import locate
from loopcoder.checkpoint.packed import check_packed
from loopcoder.checkpoint.quantization import Scheme, check_quantization_config, without_field
from loopcoder.errors import ModelNotFoundError
from loopcoder.model import cost
from loopcoder.model.config import ModelConfig
from loopcoder.model.presets import PRESETS, preset


@dataclass(frozen=True, kw_only=True)
class Described:
    """A model by name: a checkpoint, or (`directory` None) a preset's shape.

    `schemes` says which weights are saved quantised, and how.
    """

    name: str
    config: ModelConfig
    directory: Path | None = None
    header: CheckpointHeader | None = None
    schemes: Mapping[str, Scheme] = field(default_factory=dict)

    @property
    def dtype(self) -> str:
        """torch's name of the format of most weights; bfloat16 for a preset.

        Of a quantised model, the embedding's: rows, keys and values are in that.
        """
        if self.header is None:
            return "bfloat16"
        if self.schemes:
            return FORMATS[self.header.tensors[EMBEDDING].dtype][0]
        totals = self.header.bytes_by_dtype()
        return max(totals, key=lambda name: totals[name])


def describe(name: str) -> Described:
    """Find and check the model `name`: a preset, or what `locate` finds without the network."""
    if name in PRESETS and not Path(name).is_dir():
        return Described(name=name, config=preset(name))
    try:
        directory = locate(name, local_files_only=True)
    except ModelNotFoundError as error:
        presets = ", ".join(sorted(PRESETS))
        raise ModelNotFoundError(f"{error} (and not a preset: {presets})") from error
    values, where = read_config_json(directory), str(directory / CONFIG_FILE)
    quantized = check_quantization_config(values, where)
    config = parse_config(without_field(values) if quantized else values, where)
    header = open_checkpoint(directory)
    if not quantized:
        check_header(header, config)
        return Described(name=name, config=config, directory=directory, header=header)
    schemes = {name: weight.scheme for name, weight in check_packed(header, config).items()}
    return Described(name=name, config=config, directory=directory, header=header, schemes=schemes)


def as_record(model: Described, context: int) -> dict[str, Any]:
    """Everything `loopcoder info --json` prints; costs are for `context` tokens."""
    parts = cost.parameters(model.config)
    files: Mapping[str, Any] = {}
    if model.header is not None:
        files = {
            "directory": str(model.directory),
            "files": [path.name for path in model.header.files],
            "tensors": len(model.header.tensors),
            "bytes": model.header.nbytes,
            "bytes_by_dtype": model.header.bytes_by_dtype(),
            "quantized_matrices": dict(Counter(map(str, model.schemes.values()))),
        }
    own = model.config.plt_num_loops
    return {
        "name": model.name,
        **files,
        "dtype": model.dtype,
        "config": asdict(model.config),
        "variant": model.config.variant,
        "parameters": {"total": parts.total, **asdict(parts)},
        "context": context,
        "loops": [
            loop_record(model.config, loops, context, dtype_bytes(model.dtype))
            for loops in sorted({1, 2, 3, 4, own})
        ],
    }


def loop_record(
    config: ModelConfig, loops: int, context: int, bytes_per_value: int
) -> dict[str, Any]:
    """Costs of running `config` with `loops` loops on `context` tokens, keys and values stored
    at `bytes_per_value`; what is counted, `loopcoder.model.cost` says.
    """
    training = cost.training_flops(config, context, loops)
    again = cost.training_flops(config, context, loops, checkpointing=True)
    return {
        "loops": loops,
        "decode_flops_per_token": cost.decode_flops(config, context, loops).total,
        "prefill_flops": cost.prefill_flops(config, context, loops).total,
        "prefill_flops_full": cost.prefill_flops(config, context, loops, tail=False).total,
        "training_flops_per_token": training.total // context,
        "training_flops_per_token_checkpointed": again.total // context,
        "kv_bytes_per_token": cost.kv_bytes_per_token(config, bytes_per_value, loops),
        "kv_bytes_later_loops": cost.ring_bytes(config, loops, bytes_per_value),
        "kv_bytes_per_sequence": cost.kv_bytes(config, context, loops, bytes_per_value),
        "carried_state_bytes": cost.carried_bytes(config, loops, bytes_per_value),
    }
