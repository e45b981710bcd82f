"""The real bfcl-eval behind the bridge."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from loopcoder.errors import EvaluationError
from loopcoder.eval.bfcl import Bridge
from tests.eval.bfcl.answers import as_tools, keys, written
from tests.eval.bfcl.command import EVERY, RECORD, attempts, ours, same

pytestmark = pytest.mark.slow

# The possible answers of these do not fit their own function's description: an argument that it
# does not have, a required one without options, a list of texts for numbers and truth values.
NO_ANSWER = {
    "simple_java_36",
    "simple_java_65",
    "live_simple_106-63-0",
    "live_simple_112-68-0",
    "live_multiple_862-181-3",
    "live_multiple_964-207-0",
}
# Written as Java, these lose a HashMap's contents, or are no Java without quotes that would count.
NOT_IN_WRITING = {"simple_java_1", "simple_java_35", "simple_java_67", "simple_java_68"} | {
    "simple_java_85"
}


@pytest.fixture(scope="module")
def bridge(python: Path) -> Iterator[Bridge]:
    with Bridge(python) as bridge:
        yield bridge


def test_every_question_is_there_with_its_prompt_and_tools(bridge: Bridge) -> None:
    counts = {name: bridge.questions(name) for name in bridge.categories(["single_turn"])}
    assert {name: len(questions) for name, questions in counts.items()} == {
        "simple_python": 400,
        "simple_java": 100,
        "simple_javascript": 50,
        "multiple": 200,
        "parallel": 200,
        "parallel_multiple": 200,
        "irrelevance": 240,
        "live_simple": 258,
        "live_multiple": 1053,
        "live_parallel": 16,
        "live_parallel_multiple": 24,
        "live_irrelevance": 884,
        "live_relevance": 16,
    }
    for question in (each for questions in counts.values() for each in questions):
        assert question.prompt[0]["role"] == "system"
        for tool in question.tools:
            assert "." not in tool["function"]["name"]
            assert tool["function"]["parameters"]["type"] == "object"
        if question.messages[0]["role"] == "user":
            assert question.prompt[1:] == question.messages


def test_collections_and_unknown_names(bridge: Bridge) -> None:
    assert bridge.categories(["live_simple", "non_python"]) == (
        "simple_java",
        "simple_javascript",
        "live_simple",
    )
    for name in ("simple", "multi_turn", "multi_turn_base"):
        with pytest.raises(EvaluationError, match=f"no single-turn category '{name}'"):
            bridge.categories([name])


def test_right_answers_to_all_questions_are_right(bridge: Bridge, python: Path) -> None:
    wrong: dict[str, set[str]] = {"prompt": set(), "tools": set()}
    checked = 0
    for category in bridge.categories(["single_turn"]):
        for key in keys(python, "v4", category):
            checked += 1
            if not bridge.check(key.id, "prompt", written(key, category)).valid:
                wrong["prompt"].add(key.id)
            if not bridge.check(key.id, "tools", as_tools(key, category)).valid:
                wrong["tools"].add(key.id)
    assert checked == 2501
    assert wrong == {"prompt": NO_ANSWER | NOT_IN_WRITING, "tools": NO_ANSWER}


@pytest.mark.parametrize("mode", ["prompt", "tools"])
def test_verdicts_are_those_of_the_leaderboard_s_command(python: Path, mode: str) -> None:
    recorded = json.loads(RECORD.read_text(encoding="utf-8"))[mode]
    found = ours(python, mode, attempts(python, "v4", mode, EVERY))
    assert found.keys() == recorded.keys()
    assert [id for id in found if not same(recorded[id], found[id])] == []
    assert 60 < sum(not reason for reason in recorded.values()) < 120


def test_what_an_answer_says_is_not_run(bridge: Bridge, tmp_path: Path) -> None:
    path = tmp_path / "was-here"
    attack = f"__import__('pathlib').Path({str(path)!r}).touch() or 9"
    for text in (f"({attack}) + 1", f"1 + ({attack})", f"[{attack}][0] * 1"):
        result = bridge.check(
            "simple_python_0", "prompt", f"[calculate_triangle_area(base={text})]"
        )
        assert (result.valid, result.reason) == (False, "no_call")
    assert not path.exists()


@pytest.mark.parametrize(
    "text", ["9**9**9", "'a'*10**10", "(" * 5000, "-" * 50_000 + "1", "[" * 150 + "]" * 150, "\0"]
)
def test_an_answer_that_would_take_for_ever_is_wrong(bridge: Bridge, text: str) -> None:
    answer = f"[calculate_triangle_area(base={text}, height=5)]"
    assert not bridge.check("simple_python_0", "prompt", answer).valid
    right = bridge.check(
        "simple_python_0", "prompt", "[calculate_triangle_area(base=5*2, height=5)]"
    )
    assert right.valid


def questions(directory: Path, *lines: str) -> Path:
    directory.mkdir(exist_ok=True)
    (directory / "possible_answer").mkdir(exist_ok=True)
    name = "BFCL_v4_simple_python.json"
    (directory / name).write_text("\n".join(lines), encoding="utf-8")
    answers = [{"id": f"simple_python_{n}", "ground_truth": [{"f": {"x": [n]}}]} for n in (0, 1)]
    (directory / "possible_answer" / name).write_text("\n".join(map(json.dumps, answers)))
    return directory


def question(number: int) -> dict[str, object]:
    properties = {"x": {"type": "integer", "description": "A number."}}
    parameters = {"type": "dict", "properties": properties, "required": ["x"]}
    function = {"name": "f", "description": "Does it.", "parameters": parameters}
    asked = [[{"role": "user", "content": f"f of {number}? \u2028 please"}]]
    return {"id": f"simple_python_{number}", "question": asked, "function": [function]}


def test_questions_of_one_s_own(python: Path, tmp_path: Path) -> None:
    lines = [json.dumps(question(n), ensure_ascii=False) for n in (0, 1)]
    with Bridge(python, questions(tmp_path / "data", *lines)) as bridge:
        assert [each.id for each in bridge.questions("simple_python")] == [
            "simple_python_0",
            "simple_python_1",
        ]
        assert bridge.check("simple_python_1", "prompt", "f(x=1)").valid
        assert not bridge.check("simple_python_1", "prompt", "f(x=0)").valid
        with pytest.raises(EvaluationError, match=r"BFCL_v4_multiple\.json"):
            bridge.questions("multiple")


def test_bad_lines_are_named_together(python: Path, tmp_path: Path) -> None:
    good = question(0)
    lines = [json.dumps(good), "{", json.dumps(good), json.dumps({"id": "simple_python_1"}), "3"]
    with (
        Bridge(python, questions(tmp_path / "data", *lines)) as bridge,
        pytest.raises(EvaluationError) as caught,
    ):
        bridge.questions("simple_python")
    for part in ("line 2: ", "line 3: id simple_python_0 for the second time", "line 5: "):
        assert part in str(caught.value)
    assert "line 4: no question, function" in str(caught.value)


def test_nothing_is_left_behind(python: Path) -> None:
    bridge = Bridge(python)
    bridge.categories(["live"])
    process, directory = bridge._process, bridge._directory
    assert process is not None
    assert directory is not None
    bridge.close()
    assert not directory.exists()
    with pytest.raises(ProcessLookupError):
        os.kill(process.pid, 0)
