"""The errors a user can cause, one tree.

Each message says what was given, what was expected and what to do about it; the attribute that
names the culprit (file, tensor, field, argument) is part of the message.
"""

from collections.abc import Iterator
from contextlib import contextmanager


class LoopCoderError(Exception):
    """Base of every error that the user's input can cause. The command line exits with 2."""


class ConfigError(LoopCoderError, ValueError):
    """A model configuration or recipe field is impossible; the message names the field."""


class CheckpointError(LoopCoderError, ValueError):
    """A checkpoint on disk is broken; the message names the file or tensor."""


class ModelNotFoundError(LoopCoderError, FileNotFoundError):
    """No bundled model, directory or hub repository of that name."""


class RequestError(LoopCoderError, ValueError):
    """A prompt or sampling parameter cannot be served; the message names the argument."""


class GenerationError(LoopCoderError, ArithmeticError):
    """The model gave something that is no distribution over tokens (NaN, infinity)."""


class DataError(LoopCoderError, ValueError):
    """A corpus, token shard or manifest is unusable; the message names the file."""


class RecordError(LoopCoderError, ValueError):
    """A record file is unusable, or rows that do not belong together; the message names them."""


class TrainingError(LoopCoderError, RuntimeError):
    """Training cannot start or go on (a loss that is not a number, a checkpoint that is gone)."""


class EvaluationError(LoopCoderError, RuntimeError):
    """A benchmark cannot be run or scored here; the message says what is missing and what to do."""


@contextmanager
def file_errors(kind: type[LoopCoderError], advice: str) -> Iterator[None]:
    """Turn what the system refuses (permission, a full disk, a missing path) into one `kind`."""
    try:
        yield
    except OSError as error:
        path = error.filename or "the file system"
        raise kind(f"{path}: {error.strerror or error}; {advice}") from error
