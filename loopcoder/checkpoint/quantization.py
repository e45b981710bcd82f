"""Which matrices of a model are quantised and how, and how `config.json` says so. No torch.

The files follow the public compressed-tensors layout, format "pack-quantized": weights alone,
symmetric integers of 4 or 8 bits, one scale a group of inputs.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from loopcoder.checkpoint.check import HEAD
from loopcoder.errors import ConfigError

METHOD, FORMAT = "compressed-tensors", "pack-quantized"
FIELD = "quantization_config"
BITS = (4, 8)
_GATES = "re:.*plt_gate$"  # small and sensitive, and read as a linear by some programs


@dataclass(frozen=True, kw_only=True)
class Scheme:
    """Integers of `bits` bits, with one scale for `group` inputs of each output."""

    bits: int
    group: int

    def __str__(self) -> str:
        return f"int{self.bits} in groups of {self.group}"


@dataclass(frozen=True, kw_only=True)
class Quantization:
    """What the layers' linears and the head become; embedding, norms and gates stay as they are.

    The head keeps 8 bits: at 4 it loses nearly as much as all layers do. One that is tied to the
    embedding becomes a matrix of its own. docs/quantization.md has the measurements.
    """

    linears: Scheme
    head: Scheme

    @classmethod
    def of(cls, name: str, group: int | None = None) -> Self:
        """The quantisation that users call "int8" or "int4"; `group` replaces its own.

        Raises `ConfigError` for another name or an impossible group.
        """
        if name not in _DEFAULT_GROUP:
            known = " or ".join(_DEFAULT_GROUP)
            raise ConfigError(f"quantization is {name!r}; it must be {known}")
        asked = _DEFAULT_GROUP[name] if group is None else group
        if asked < 1:
            raise ConfigError(f"group is {asked}; it must be at least 1, such as 32, 64 or 128")
        linears = Scheme(bits=int(name.removeprefix("int")), group=asked)
        head = linears if linears.bits == HEAD_BITS else Scheme(bits=HEAD_BITS, group=HEAD_GROUP)
        return cls(linears=linears, head=head)

    def __str__(self) -> str:
        return f"{self.linears}, head {self.head}"

    def scheme(self, name: str) -> Scheme | None:
        """How the tensor `name` is to be quantised; None for one that stays as it is."""
        if name == HEAD:
            return self.head
        return self.linears if is_linear(name) else None


# The largest groups that cost nothing measurable with 8 bits; with 4, smaller ones pay.
_DEFAULT_GROUP = {"int8": 128, "int4": 32}
HEAD_BITS, HEAD_GROUP = 8, _DEFAULT_GROUP["int8"]


def is_linear(name: str) -> bool:
    """Is the tensor a matrix that multiplies rows: a layer's projection or the head?"""
    return name == HEAD or name.endswith("_proj.weight")


def quantization_json(schemes: Mapping[str, Scheme]) -> dict[str, Any]:
    """The `quantization_config` of a checkpoint whose weights (by name) have these `schemes`.

    The most frequent scheme is that of every linear; the others are given by name.
    """
    main, _ = Counter(schemes.values()).most_common(1)[0]
    targets: dict[Scheme, list[str]] = {main: ["Linear"]}
    for name, scheme in schemes.items():
        target = f"re:.*{name.removesuffix('.weight').rpartition('.')[2]}$"
        known = targets.setdefault(scheme, [])
        if scheme != main and target not in known:
            known.append(target)
    return {
        "quant_method": METHOD,
        "format": FORMAT,
        "quantization_status": "compressed",
        "config_groups": {
            f"group_{i}": {"targets": names, "weights": _arguments(scheme)}
            for i, (scheme, names) in enumerate(targets.items())
        },
        "ignore": [_GATES],
    }


def _arguments(scheme: Scheme) -> dict[str, Any]:
    return {
        "num_bits": scheme.bits,
        "type": "int",
        "symmetric": True,
        "strategy": "group",
        "group_size": scheme.group,
        "dynamic": False,
    }


def without_field(values: Mapping[str, Any]) -> dict[str, Any]:
    """The rest of a `config.json`: that of the float model."""
    return {name: value for name, value in values.items() if name != FIELD}


def check_quantization_config(values: Mapping[str, Any], where: str) -> bool:
    """Does this `config.json` belong to a quantised checkpoint?

    Raises `ConfigError`, naming the field, for a kind of quantisation that is not read here. Bits
    and groups are taken from the tensors themselves.
    """
    config = values.get(FIELD)
    if config is None:
        return False
    where = f"{where}: {FIELD}"
    if not isinstance(config, Mapping):
        raise ConfigError(f"{where} is {config!r}; it must be null or an object")
    _expect(config, "quant_method", METHOD, where)
    _expect(config, "format", FORMAT, where)
    groups = config.get("config_groups")
    if not isinstance(groups, Mapping) or not groups:
        raise ConfigError(f"{where}: config_groups must give the schemes of the weights")
    for name, group in groups.items():
        _check_group(group, f"{where}.config_groups.{name}")
    if config.get("kv_cache_scheme") is not None:
        raise ConfigError(f"{where}: kv_cache_scheme is set; only weights may be quantised")
    return True


def _check_group(group: object, where: str) -> None:
    if not isinstance(group, Mapping) or not isinstance(group.get("weights"), Mapping):
        raise ConfigError(f"{where} has no weights; it must give their bits and group size")
    weights = group["weights"]
    _expect(weights, "type", "int", where)
    if weights.get("num_bits") not in BITS:
        raise ConfigError(
            f"{where}: num_bits is {weights.get('num_bits')!r}; only 4 and 8 are read"
        )
    if weights.get("symmetric", True) is not True:
        raise ConfigError(f"{where}: symmetric is false; weights with zero points are not read")
    if group.get("input_activations") is not None:
        raise ConfigError(f"{where}: input_activations is set; only weights may be quantised")


def _expect(values: Mapping[str, Any], name: str, expected: str, where: str) -> None:
    if values.get(name, expected if name == "type" else None) != expected:
        raise ConfigError(f"{where}: {name} is {values.get(name)!r}; only {expected!r} is read")
