"""MBPP, Google's two files of it and EvalPlus's."""

import ast
import builtins
import re
import warnings
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import (
    AfterValidator,
    AliasChoices,
    BeforeValidator,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

from loopcoder.eval.problems.identifier import Identifier
from loopcoder.eval.problems.mbpp_inputs import restore
from loopcoder.eval.problems.rows import Row, read_rows
from loopcoder.eval.problems.types import Assertions, CodeProblem, Inputs

# Tasks of MBPP+ whose answer is not settled by equality with the reference's (EvalPlus 0.3.1).
ORACLES = {
    "are_equivalent": "any",
    "sum_div": "or_zero",
    "surface_Area": "surface_area",
    "digit_distance_nums": "digit_distance",
    **dict.fromkeys(("check_str", "text_match_three", "text_starta_endb"), "not_none"),
    **dict.fromkeys(
        (
            "similar_elements",
            "find_char_long",
            "common_in_nested_lists",
            "extract_singly",
            "larg_nnum",
            "intersection_array",
            "find_dissimilar",
            "Diff",
        ),
        "set",
    ),
}
_NUMBER = re.compile(r"Mbpp/(\d+)")


def _numbered(text: str) -> str:
    if not _NUMBER.fullmatch(text):
        raise ValueError(f"is {text!r}, not of the form Mbpp/2")
    return text


def _no_inputs(value: Any) -> Any:
    return [] if value == {} else value  # the file has {} where a task has none


class _PlusTask(Row):
    task_id: Annotated[str, AfterValidator(_numbered)]
    prompt: str
    entry_point: Identifier
    canonical_solution: str
    base_input: list[list[Any]]
    plus_input: Annotated[list[list[Any]], BeforeValidator(_no_inputs)]
    atol: float

    @field_validator("base_input", "plus_input")
    @classmethod
    def _restored(cls, inputs: list[list[Any]], info: ValidationInfo) -> list[list[Any]]:
        if "task_id" not in info.data:  # named already as a bad field
            return inputs
        number = int(info.data["task_id"].partition("/")[2])
        try:
            return [list(restore(number, arguments)) for arguments in inputs]
        except (TypeError, ValueError, AttributeError) as error:
            raise ValueError(f"has another form than this task's inputs: {error}") from error

    def key(self) -> str:
        return self.task_id


class _Task(Row):
    task_id: int
    text: str = Field(validation_alias=AliasChoices("text", "prompt"))
    code: str
    test_list: list[str] = Field(min_length=1)
    test_setup_code: str = ""
    test_imports: list[str] = Field(default_factory=list)

    @model_validator(mode="after")
    def _tested(self) -> Self:
        if entry_point(self.code, self.test_list) is None:
            raise ValueError("field 'test_list' calls no function")
        return self

    def key(self) -> str:
        return f"Mbpp/{self.task_id}"


def read_mbpp_plus(path: Path) -> tuple[CodeProblem, ...]:
    """The problems of EvalPlus's MbppPlus.jsonl.gz. Raises `EvaluationError` with every bad line.

    Inputs that do not have the form that their task takes are an error too.
    """
    return tuple(
        CodeProblem(
            id=row.task_id,
            prompt=row.prompt,
            entry_point=row.entry_point,
            reference=row.prompt + row.canonical_solution,
            tests=Inputs(
                base=tuple(map(tuple, row.base_input)),
                plus=tuple(map(tuple, row.plus_input)),
                atol=row.atol,
                oracle=ORACLES.get(row.entry_point),
            ),
        )
        for row in read_rows(path, _PlusTask)
    )


def read_mbpp(path: Path) -> tuple[CodeProblem, ...]:
    """The problems of Google's mbpp.jsonl or sanitized-mbpp.json, tested by its own assertions.

    The prompt is a docstring of the text and the first test, as of EvalPlus (and InCoder before).
    Raises `EvaluationError` with every bad line.
    """
    return tuple(_problem(row) for row in read_rows(path, _Task))


def _problem(row: _Task) -> CodeProblem:
    name = entry_point(row.code, row.test_list)
    assert name is not None, "checked when the row was read"
    return CodeProblem(
        id=row.key(),
        prompt=f'"""\n{row.text.strip()}\n{row.test_list[0].strip()}\n"""\n',
        entry_point=name,
        reference=row.code.replace("\r\n", "\n"),
        tests=Assertions(
            source="\n".join((*row.test_imports, *row.test_list)) + "\n",
            setup=row.test_setup_code.replace("\r\n", "\n"),
        ),
    )


def entry_point(code: str, tests: list[str]) -> str | None:
    """The function that the tests are about, or None where they call none.

    Of the functions of `code` that every test calls it is the last, for helpers stand above what
    uses them; where there is no such, the first name called that is no builtin.
    """
    called = [_called(test) for test in tests]
    defined = _defined(code)
    of_all = [name for name in defined if all(name in names for names in called)]
    if of_all:
        return of_all[-1]
    return next((name for names in called for name in names if not hasattr(builtins, name)), None)


def _defined(code: str) -> list[str]:
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    return [node.name for node in _tree(code).body if isinstance(node, kinds)]


def _called(test: str) -> list[str]:
    return [
        node.func.id
        for node in ast.walk(_tree(test))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    ]


def _tree(code: str) -> ast.Module:
    """Its syntax tree; an empty one where it is no Python."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of escapes in old code
        try:
            return ast.parse(code)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return ast.Module(body=[], type_ignores=[])
