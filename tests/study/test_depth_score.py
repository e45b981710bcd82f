"""The scorer of the tasks that need depth, against one question at a time, token by token."""

from functools import cache
from typing import Any

import pytest
import torch

from loopcoder.depth.question import END, MODES, Query, Question
from loopcoder.depth.tasks import TASKS, different_questions
from loopcoder.errors import ConfigError, RequestError
from loopcoder.hf import IQuestPLTCoderForCausalLM
from loopcoder.study.depth_score import SLACK, Alphabet, DepthQuestions, Reply, score_depth, write
from tests.small import small_model

ALPHABET = Alphabet.of_bytes()
ASKED = DepthQuestions(tasks=tuple(TASKS), modes=MODES, hops=(3, 1), count=9, seed=4)
VARIANTS: list[dict[str, Any]] = [
    {},
    {"plt_num_loops": 1},
    {"plt_loop_offset": 0, "plt_share_kv": False, "plt_gated_window": False},
]


def slow_text(
    model: IQuestPLTCoderForCausalLM, question: Question, mode: Any, loops: int | None
) -> str:
    """Greedy text by a full forward pass a token, to the end mark, a special token or the limit."""
    character = {index: c for c, index in ALPHABET.id_of.items()}
    query = question.queries[0]
    prompt = question.statement + query.prompt(mode)
    ids = [ALPHABET.bos, *(ALPHABET.id_of[c] for c in prompt)]
    text = ""
    while len(text) < len(query.continuation(mode)) + SLACK and not text.endswith(END):
        logits = model(torch.tensor([ids]), num_loops=loops).logits
        ids.append(int(logits[0, -1].argmax()))
        if ids[-1] in ALPHABET.stops and character.get(ids[-1]) != END:
            return text + " "
        text += character.get(ids[-1], "\t")
    return text


def slow_right(
    model: IQuestPLTCoderForCausalLM, question: Question, mode: Any, loops: int | None
) -> str:
    text, query = slow_text(model, question, mode, loops), question.queries[0]
    if mode == "direct":
        return "01"[text == query.answer + END]
    return "01"[text.endswith(query.answer + END)]


@cache
def trained(steps: int = 60, **fields: Any) -> IQuestPLTCoderForCausalLM:
    """A model that has seen a few texts often: it ends answers, and some of them are right."""
    model: IQuestPLTCoderForCausalLM = small_model(vocab_size=265, **fields)
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for step in range(steps):
        task = list(TASKS)[step % len(TASKS)]
        rows: list[list[int]] = []
        for question in different_questions(task, 1 + step % 3, "test", 4, 6):
            mode = MODES[len(rows) % 2]
            query = question.queries[0]
            text = question.statement + query.text(mode)
            rows.append([ALPHABET.bos, *(ALPHABET.id_of[c] for c in text)])
        width = max(map(len, rows))
        ids = torch.tensor([row + [0] * (width - len(row)) for row in rows])
        loss = model(ids, labels=ids.masked_fill(ids == 0, -100)).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.train(False)
    return model


@pytest.mark.parametrize("fields", VARIANTS, ids=str)
def test_as_one_at_a_time(fields: dict[str, Any]) -> None:
    model = trained(**fields)
    found = score_depth(model, ASKED, batch=4)
    assert [(score.task, score.mode) for score in found] == [
        (task, mode) for task in TASKS for mode in MODES
    ]
    for score in found:
        assert score.hops == [3, 1]
        assert score.right == [
            "".join(
                slow_right(model, question, score.mode, None)
                for question in different_questions(score.task, hops, "test", 4, 9)
            )
            for hops in (3, 1)
        ]
    assert {"0", "1"} == {digit for score in found for right in score.right for digit in right}


@pytest.mark.parametrize("fields", VARIANTS[::2], ids=str)
@pytest.mark.parametrize("seed", range(3))
def test_what_is_written_is_the_greedy_text(seed: int, fields: dict[str, Any]) -> None:
    """The texts themselves, not only their ends, whatever was guessed."""
    model = trained(20 + 20 * seed, **fields)
    questions = different_questions("brackets", 4, "test", seed, 8)
    replies = [Reply.to(question, "steps", ALPHABET) for question in questions]
    for reply in replies[4:]:
        reply.guess = [seed + 5] * 3
    write(replies, model, None, batch=3)
    for reply, question in zip(replies, questions, strict=True):
        slow = slow_text(model, question, "steps", None)
        assert len(reply.written) == len(slow)
        expected = [ALPHABET.id_of.get(c) for c in slow]
        assert [
            None if index not in ALPHABET.id_of.values() else index for index in reply.written
        ] == expected


@pytest.mark.parametrize("mode", MODES)
def test_another_loop_count(mode: Any) -> None:
    """A model is asked at the count given, and at its own without one."""
    model = trained(plt_num_loops=3)
    asked = DepthQuestions(tasks=("brackets",), modes=(mode,), hops=(1, 2), count=30, seed=0)
    by_loops = {loops: score_depth(model, asked, loops=loops)[0].right for loops in (1, 2, 3, None)}
    assert by_loops[3] == by_loops[None]
    assert by_loops[1] != by_loops[3]
    for loops in (1, 2):
        expected = [
            "".join(
                slow_right(model, question, mode, loops)
                for question in different_questions("brackets", hops, "test", 0, 30)
            )
            for hops in (1, 2)
        ]
        assert by_loops[loops] == expected
    with pytest.raises(RequestError, match="loops is 2"):
        score_depth(small_model(vocab_size=265, plt_num_loops=1), asked, loops=2)


def test_batches_and_mode_of_the_model_change_nothing() -> None:
    model = trained().train()
    first = score_depth(model, ASKED, batch=64)
    assert model.training
    assert score_depth(model.eval(), ASKED, batch=1) == first
    assert not model.training


def reply(mode: Any, text: str) -> Reply:
    """The reply to a question with the truth `bca7;` or `7;`, in which `text` is written."""
    query = Query(ask="d", steps="bca", answer="7")
    question = Question(task="chains", hops=3, statement="x:", queries=(query,))
    made = Reply.to(question, mode, ALPHABET)
    for character in text:
        assert not made.done
        made.guess = []
        made.accept([ALPHABET.id_of.get(character, ALPHABET.bos)])
    return made


@pytest.mark.parametrize(
    ("mode", "text", "done", "right"),
    [
        ("direct", "7;", True, True),
        ("direct", "7", False, False),
        ("direct", "6", True, False),
        ("direct", "77", True, False),
        ("steps", "bca7;", True, True),
        ("steps", "bbca7;", True, True),  # other steps, the same answer
        ("steps", "7;", True, True),
        ("steps", "bca6;", True, False),
        ("steps", ";", True, False),
        ("steps", "bca7 ", True, False),  # a special token
        ("steps", "bcabcab7;", True, True),
        ("steps", "bcabcabb7", True, False),  # too long
        ("steps", "bca7", False, False),
    ],
)
def test_what_is_right(mode: Any, text: str, done: bool, right: bool) -> None:
    made = reply(mode, text)
    assert (made.done, made.right and made.done) == (done, right)


def test_few_questions_make_short_strings() -> None:
    asked = DepthQuestions(tasks=("arithmetic",), modes=("direct",), hops=(1,), count=50, seed=0)
    (score,) = score_depth(small_model(vocab_size=265), asked)
    assert len(score.right[0]) == 6


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"tasks": ("sums",)}, r"questions\.tasks is \['sums'\]"),
        ({"modes": ("direct", "direct")}, r"questions\.modes is "),
        ({"hops": ()}, r"questions\.hops is \[\]; give different ones from 1 to 16"),
        ({"hops": (2, 2)}, r"questions\.hops is \[2, 2\]"),
        ({"hops": (17,)}, r"questions\.hops is \[17\]"),
        ({"count": 0}, r"questions\.count is 0; it must be at least 1"),
    ],
)
def test_questions_that_cannot_be_asked(fields: dict[str, Any], named: str) -> None:
    given = {"tasks": ("chains",), "modes": MODES, "hops": (1,), "count": 1, "seed": 0}
    with pytest.raises(ConfigError, match=named):
        DepthQuestions(**{**given, **fields})


def test_a_model_of_other_tokens_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"vocab_size is 256; questions are asked in byte tokens"):
        score_depth(small_model(), ASKED)
