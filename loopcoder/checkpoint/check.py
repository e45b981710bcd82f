"""Do the tensors of a checkpoint make the model of its configuration? From headers; no torch."""

from collections.abc import Collection
from pathlib import Path

from loopcoder.checkpoint.dtypes import FORMATS
from loopcoder.checkpoint.header import CheckpointHeader
from loopcoder.errors import CheckpointError
from loopcoder.model.config import ModelConfig
from loopcoder.model.shapes import tensor_shapes

HEAD = "lm_head.weight"
EMBEDDING = "model.embed_tokens.weight"


def check_header(
    header: CheckpointHeader, config: ModelConfig, *, without: Collection[str] = ()
) -> None:
    """Raise `CheckpointError` unless `header` holds exactly the tensors of `config`.

    A model with a tied head may still carry `lm_head.weight`; `load_model` compares the bytes.
    `without` names tensors that are stored in another form and checked elsewhere.
    """
    shapes = tensor_shapes(config).items()
    expected = {name: shape for name, shape in shapes if name not in without}
    if config.tie_word_embeddings and HEAD in header.tensors:
        expected[HEAD] = expected[EMBEDDING]
    missing = [name for name in expected if name not in header.tensors]
    if missing:
        raise CheckpointError(
            f"{header.directory}: {_first(missing)} is missing{_hint(config, missing[0])}"
        )
    extra = [name for name in header.tensors if name not in expected]
    if extra:
        info = header.tensors[extra[0]]
        raise CheckpointError(f"{info.file}: unexpected {_first(extra)}{_hint(config, extra[0])}")
    for name, shape in expected.items():
        info = header.tensors[name]
        _check_tensor(info.file, name, info.dtype, info.shape, shape)


def _check_tensor(
    file: Path, name: str, dtype: str, shape: tuple[int, ...], expected: tuple[int, ...]
) -> None:
    if shape != expected:
        raise CheckpointError(
            f"{file}: {name} has the shape {list(shape)}; config.json asks for {list(expected)}"
        )
    if dtype not in FORMATS:
        raise CheckpointError(
            f"{file}: {name} has the format {dtype}; supported are {', '.join(FORMATS)}"
        )


def _first(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} (and {len(names) - 1} more)"


def _hint(config: ModelConfig, name: str) -> str:
    if ".plt_gate." in name and not config.plt_gated_window:
        return "; config.json has plt_gated_window false, and gates mix in that window"
    if ".plt_gate." in name:
        return f"; plt_num_loops is {config.plt_num_loops}, and gates belong to loops 2 and up"
    if name == HEAD:
        return "; config.json has tie_word_embeddings false, so the head is a tensor of its own"
    return "; config.json describes another model, or the checkpoint is incomplete"
