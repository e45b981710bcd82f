"""Plain Python values as JSON, between processes that do not trust each other.

Standard library only: its source also runs inside the sandbox. What comes out of `unpack` is made
of builtin types and has no behaviour but theirs: an object of another class arrives as `Opaque`,
which equals nothing, one of a builtin's subclass as a subclass of ours that adds nothing.
JSON's null, true, false, strings, numbers and arrays stand for themselves; anything else is an
object with one key, its tag.
"""

import json
import marshal
import math
import time
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

MAX_DEPTH = 100
MAX_SIZE = 16 << 20  # of one value, about its bytes as JSON; benchmarks have lists of a million
MAX_HASHING = 5.0  # seconds spent on filling sets and dicts: crafted keys all collide
MAX_ITEMS = 100_000  # read from one iterator, which may never end

Tree = Any  # what json gives


class ValuesError(ValueError):
    """A value too large, too deep, or bytes that are no value."""


class TooLargeError(ValuesError):
    """A value above `MAX_SIZE`."""


class Opaque:
    """Something that is no plain data; `kind` is its class's name. Equals nothing."""

    __slots__ = ("kind",)

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def __eq__(self, other: object) -> bool:
        return False

    def __hash__(self) -> int:
        return id(self)

    def __repr__(self) -> str:
        return f"<{self.kind}>"


class Digest:
    """A large value, by its exact content: equal only to the same value of the same types."""

    __slots__ = ("sha256",)

    def __init__(self, sha256: str) -> None:
        self.sha256 = sha256

    def __eq__(self, other: object) -> bool:
        return type(other) is Digest and other.sha256 == self.sha256

    def __hash__(self) -> int:
        return hash(self.sha256)

    def __repr__(self) -> str:
        return f"<a large value, {self.sha256[:12]}>"


def _subclass(base: type) -> type:
    return type(f"Sub{base.__name__}", (base,), {"__slots__": ()})


# In the order in which a class is looked up: no two of them have a common subclass.
BUILTINS = (int, float, complex, str, bytes, bytearray, list, tuple, set, frozenset, dict)
SUBCLASSES: dict[str, type] = {base.__name__: _subclass(base) for base in BUILTINS}

_ITERATORS: tuple[type, ...] = (
    type(iter([])),
    type(iter(())),
    type(iter("")),
    type(iter({})),
    type(iter(range(0))),
    type(iter(set())),
    type(reversed([])),
    type(_ for _ in ()),
    map,
    filter,
    zip,
    enumerate,
    reversed,
    type({}.values()),
)
_SCALARS = {type(None), bool, int, float, str}
_SEQUENCES: dict[type, str] = {
    tuple: "tuple",
    set: "set",
    frozenset: "frozenset",
    deque: "deque",
    type({}.keys()): "keys",
}
_MAPPINGS: dict[type, str] = {
    dict: "dict",
    OrderedDict: "ordered",
    Counter: "counter",
    defaultdict: "default",
}


def dump(message: dict[str, Tree]) -> bytes:
    """One line of ASCII."""
    return json.dumps(message, separators=(",", ":"), allow_nan=False).encode("ascii")


def load(line: bytes) -> dict[str, Tree]:
    """The line's object. Raises `ValuesError` for any bytes that are not one."""
    try:
        message = json.loads(line.decode("ascii"), parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise ValuesError("no JSON") from error
    if not isinstance(message, dict):
        raise ValuesError("no JSON object")
    return message


def _refuse(word: str) -> None:
    raise ValuesError(f"{word} is no JSON")


def pack(value: object, *, plain: bool = False) -> Tree:
    """The value's tree; above `MAX_SIZE` a digest. Calls no method that its classes define.

    Raises `ValuesError` for a value nested too deep, or a large one that is not lists, tuples,
    strings and numbers; with `plain` also for one that would arrive as `Opaque`.
    """
    try:
        return _Packer(plain).pack(value, 0)
    except TooLargeError:
        return {"digest": _digest(value)}


def unpack(tree: Tree) -> Any:
    """The value. Raises `ValuesError`, and nothing else, for a tree that `pack` would not give."""
    try:
        return _Unpacker().unpack(tree, 0)
    except ValuesError:
        raise
    except (TypeError, ValueError, ArithmeticError, RecursionError) as error:
        raise ValuesError(f"no value: {type(error).__name__}") from error


class _Packer:
    def __init__(self, plain: bool) -> None:
        self._plain = plain
        self._left = MAX_SIZE
        self._by_type: dict[type, Callable[[Any, int], Tree]] = {
            int: self._int,
            float: lambda value, _: value if math.isfinite(value) else {"float": repr(value)},
            str: self._str,
            list: self._items,
            complex: lambda value, depth: {"complex": self._items((value.real, value.imag), depth)},
            bytes: self._bytes,
            bytearray: self._bytes,
            range: self._range,
            **dict.fromkeys(_SEQUENCES, self._sequence),
            **dict.fromkeys(_MAPPINGS, self._mapping),
            **dict.fromkeys(_ITERATORS, self._iterator),
        }

    def pack(self, value: Any, depth: int) -> Tree:
        self._spend(8, depth)
        kind = type(value)
        if value is None or kind is bool:
            return value
        return self._by_type.get(kind, self._rare)(value, depth)

    def _spend(self, size: int, depth: int = 0) -> None:
        self._left -= size
        if self._left < 0:
            raise TooLargeError("a value that is too large")
        if depth > MAX_DEPTH:
            raise ValuesError("a value that is nested too deep")

    def _int(self, value: int, depth: int) -> Tree:
        bits = value.bit_length()
        if bits < 64:
            return value
        self._spend(bits // 4)
        return {"int": format(value, "x")}

    def _str(self, value: str, depth: int) -> Tree:
        plain = value.isascii() and value.isprintable()
        self._spend(len(value) if plain else 6 * len(value))
        return value

    def _bytes(self, value: bytes, depth: int) -> Tree:
        self._spend(2 * len(value))
        return {type(value).__name__: value.hex()}

    def _range(self, value: range, depth: int) -> Tree:
        return {"range": self._items((value.start, value.stop, value.step), depth)}

    def _sequence(self, value: Any, depth: int) -> Tree:
        return {_SEQUENCES[type(value)]: self._items(value, depth)}

    def _mapping(self, value: Any, depth: int) -> Tree:
        return {_MAPPINGS[type(value)]: [self._items(pair, depth + 1) for pair in value.items()]}

    def _items(self, items: Iterable[Any], depth: int) -> list[Tree]:
        items = items if type(items) is list else list(items)
        if _all_numbers(items):
            self._spend(16 * len(items), depth + 1)
            return items
        return [self.pack(item, depth + 1) for item in items]

    def _iterator(self, value: Iterable[Any], depth: int) -> Tree:
        packed: list[Tree] = []
        for item in value:
            if len(packed) == MAX_ITEMS:
                return {"opaque": "iterator"}
            packed.append(self.pack(item, depth + 1))
        return {"iterator": packed}

    def _rare(self, value: Any, depth: int) -> Tree:
        kind = type(value)
        name = f"{getattr(kind, '__module__', '')}.{kind.__qualname__}"
        if name == "decimal.Decimal":
            return {"decimal": self._str(str(value), depth)}
        if name == "fractions.Fraction":
            return {"fraction": self._items((value.numerator, value.denominator), depth)}
        if name.startswith("numpy.") and getattr(value, "shape", None) == ():
            value = value.item()
            return {"sub": [type(value).__name__, self.pack(value, depth + 1)]}
        for base in BUILTINS:
            if issubclass(kind, base):
                return {"sub": [base.__name__, self.pack(_as_base(value, base), depth + 1)]}
        if kind is Opaque:  # a candidate's own, on its way back
            return {"opaque": value.kind}
        if self._plain:
            raise ValuesError(f"an object of class {name[:80]}")
        return {"opaque": name[:80]}


def _all_numbers(items: list[Any]) -> bool:
    """Whether JSON takes them as they are: a long list of numbers is common, and this is fast."""
    if not set(map(type, items)) <= {int, float, bool}:
        return False
    try:
        finite = all(map(math.isfinite, items))
    except OverflowError:
        return False
    return finite and min(items, default=0) > -(2.0**63) and max(items, default=0) < 2.0**63


def _digest(value: Any) -> str:
    """The exact content of a value that is too large to send, types included."""
    import hashlib  # rarely needed, and slow to load

    total = hashlib.sha256(f"{type(value).__name__} ".encode())
    try:
        for item in value if type(value) in (list, tuple) else (value,):
            total.update(marshal.dumps(item, 0))  # version 0: no references, content alone
    except ValueError as error:
        raise TooLargeError("a value that is too large") from error
    return total.hexdigest()


def _as_base(value: Any, base: type) -> Any:
    """The builtin value inside an object of a subclass, by the builtin's own methods."""
    if base is complex:
        return complex(complex.real.__get__(value), complex.imag.__get__(value))
    if base in (list, tuple, bytes, bytearray):
        return base.__getitem__(value, slice(None))
    take: dict[type, Callable[[Any], Any]] = {
        int: int.__int__,
        float: float.__float__,
        str: str.__str__,
        set: lambda items: set(set.__iter__(items)),
        frozenset: lambda items: frozenset(frozenset.__iter__(items)),
        dict: lambda items: dict(list(dict.items(items))),
    }
    return take[base](value)


class _Unpacker:
    def __init__(self) -> None:
        self._hashing = 0.0

    def unpack(self, tree: Tree, depth: int) -> Any:
        if depth > MAX_DEPTH:
            raise ValuesError("a value that is nested too deep")
        if type(tree) in _SCALARS:
            return tree
        if isinstance(tree, list):
            return self._items(tree, depth)
        if len(tree) != 1:
            raise ValuesError("a tag is the only key of its object")
        ((tag, content),) = tree.items()
        if tag in _MAPPINGS.values():
            return self._mapping(tag, content, depth)
        if isinstance(content, str):
            return _from_text(tag, content)
        if tag == "sub":
            return self._sub(content, depth)
        return self._sequence(tag, self._items(content, depth))

    def _items(self, trees: list[Tree], depth: int) -> list[Any]:
        if not isinstance(trees, list):
            raise ValuesError("a tag of something else than an array")
        if set(map(type, trees)) <= _SCALARS:
            return trees
        return [self.unpack(tree, depth + 1) for tree in trees]

    def _mapping(self, tag: str, pairs: list[Tree], depth: int) -> Any:
        result: Any = {}
        unpacked = (self._items(pair, depth + 1) for pair in pairs)
        for key, value in self._watched(unpacked):
            result[key] = value
        if tag == "ordered":
            return OrderedDict(result)
        if tag == "counter":
            return Counter(result)
        return defaultdict(None, result) if tag == "default" else result

    def _sequence(self, tag: str, items: list[Any]) -> Any:
        if tag in ("set", "frozenset", "keys"):
            filled: dict[Any, None] = {}
            for item in self._watched(iter(items)):
                filled[item] = None
            return filled.keys() if tag == "keys" else (set if tag == "set" else frozenset)(filled)
        if tag in ("range", "complex", "fraction"):
            return _from_numbers(tag, items)
        if tag == "deque":
            return deque(items)
        if tag == "iterator":
            return iter(items)
        if tag == "tuple":
            return tuple(items)
        raise ValuesError("an unknown tag")

    def _sub(self, content: Tree, depth: int) -> Any:
        base, inner = content
        value = self.unpack(inner, depth + 1)
        if type(value).__name__ != base:
            raise ValuesError("a subclass of another type than its value's")
        return SUBCLASSES[base](value) if base in SUBCLASSES else value

    def _watched(self, items: Iterator[Any]) -> Iterator[Any]:
        """The items, while inserting them (which happens between two of them) takes little time."""
        for item in items:
            start = time.monotonic()
            yield item
            self._hashing += time.monotonic() - start
            if self._hashing > MAX_HASHING:
                raise ValuesError("keys that all collide")


def _decimal(text: str) -> Any:
    from decimal import Decimal

    return Decimal(text)


_TEXTS: dict[str, Callable[[str], Any]] = {
    "opaque": lambda text: Opaque(text[:80]),
    "digest": lambda text: Digest(text[:64]),
    "float": float,
    "int": lambda text: int(text, 16),
    "decimal": _decimal,
    "bytes": bytes.fromhex,
    "bytearray": bytearray.fromhex,
}


def _from_text(tag: str, text: str) -> Any:
    if tag not in _TEXTS:
        raise ValuesError("an unknown tag")
    return _TEXTS[tag](text)


def _from_numbers(tag: str, items: list[Any]) -> Any:
    kind = float if tag == "complex" else int
    if not all(type(item) is kind for item in items):
        raise ValuesError(f"{tag} of something else than numbers")
    if tag == "range":
        return range(*items)
    if tag == "complex":
        real, imaginary = items
        return complex(real, imaginary)
    from fractions import Fraction

    if any(item.bit_length() > 1 << 14 for item in items):
        raise ValuesError("a fraction that is too large")  # its gcd takes quadratic time
    return Fraction(*items)
