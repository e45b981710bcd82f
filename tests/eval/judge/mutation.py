"""Wrong programs, made from right ones: one small seeded change to the syntax tree each."""

import ast
import random
from collections.abc import Callable, Iterator

Change = Callable[[], None]

_COMPARE: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
_BINARY: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Add,
    ast.Div: ast.FloorDiv,
    ast.FloorDiv: ast.Div,
    ast.Mod: ast.FloorDiv,
    ast.Pow: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitXor,
    ast.BitXor: ast.BitAnd,
}


def mutants(program: str, seed: str, count: int) -> list[str]:
    """Up to `count` different programs, each one change away from `program`."""
    original = ast.unparse(ast.parse(program))
    places = len(list(_changes(ast.parse(program))))
    order = random.Random(seed).sample(range(places), places)
    found: dict[str, None] = {}
    for place in order:
        if len(found) == count:
            break
        tree = ast.parse(program)
        list(_changes(tree))[place]()
        text = ast.unparse(ast.fix_missing_locations(tree))
        if text != original:
            found[text] = None
    return list(found)


def _changes(tree: ast.Module) -> Iterator[Change]:
    """Every change there is inside the functions, in a fixed order."""
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef):
            for node in ast.walk(function):
                yield from _of_node(node)


def _of_node(node: ast.AST) -> Iterator[Change]:
    if isinstance(node, ast.Compare) and type(node.ops[0]) in _COMPARE:
        yield lambda: node.ops.__setitem__(0, _COMPARE[type(node.ops[0])]())
    elif isinstance(node, ast.BinOp | ast.AugAssign) and type(node.op) in _BINARY:
        yield lambda: setattr(node, "op", _BINARY[type(node.op)]())
    elif isinstance(node, ast.BoolOp):
        other = ast.And() if isinstance(node.op, ast.Or) else ast.Or()
        yield lambda: setattr(node, "op", other)
    elif isinstance(node, ast.Constant):
        yield from _of_constant(node)
    elif isinstance(node, ast.If | ast.While | ast.IfExp):
        yield lambda: setattr(node, "test", ast.UnaryOp(ast.Not(), node.test))
    elif isinstance(node, ast.Return) and node.value is not None:
        yield lambda: setattr(node, "value", ast.List([node.value], ast.Load()))
        yield lambda: setattr(node, "value", ast.Constant(None))
    elif isinstance(node, ast.Call) and len(node.args) > 1:
        yield node.args.reverse
    if isinstance(node, ast.FunctionDef | ast.For | ast.While | ast.If) and len(node.body) > 1:
        for index in range(len(node.body)):
            yield lambda index=index: node.body.__setitem__(index, ast.Pass())


def _of_constant(node: ast.Constant) -> Iterator[Change]:
    value = node.value
    if isinstance(value, bool):
        yield lambda: setattr(node, "value", not value)
    elif isinstance(value, int | float):
        yield lambda: setattr(node, "value", value + 1)
        yield lambda: setattr(node, "value", value - 1)
    elif isinstance(value, str) and len(value) < 20:  # longer ones are documentation
        yield lambda: setattr(node, "value", value + "x")
