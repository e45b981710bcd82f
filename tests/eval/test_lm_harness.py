"""The model `loopcoder` of lm-eval: the scores that lm-eval's own `hf` gives the same model."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from loopcoder.checkpoint.load import load_model
from loopcoder.checkpoint.locate import locate
from loopcoder.engine.llm import LLM
from loopcoder.errors import GenerationError, RequestError
from loopcoder.eval.lm_harness.__main__ import main
from loopcoder.eval.lm_harness.scores import Pair, score_pairs
from tests.small import byte_tokenizer, small_model

TOLERANCE = 1e-4  # of sums of float32 log-probabilities, relative; measured 3e-6
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lm_eval") / "small"
    small_model(plt_num_loops=2).save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return folder


def pairs(vocabulary: int, greedy: torch.Tensor) -> list[Pair]:
    """Continuations of one token and of several, in no order; some share a context."""
    torch.manual_seed(3)
    ids = torch.randint(vocabulary, (60,)).tolist()
    contexts = [ids[:40], ids[:1], ids[10:40], ids[:40]]
    found = [Pair(context, [token]) for context in contexts for token in (7, 9)]
    found += [Pair(context, ids[40 : 40 + n]) for context in contexts for n in (2, 15)]
    found.append(Pair([5], greedy[:1].tolist()))
    found.append(Pair([5], greedy.tolist()))
    return [found[(i * 7) % len(found)] for i in range(len(found))]


def test_scores_are_those_of_the_whole_forward_pass(checkpoint: Path) -> None:
    llm = LLM(checkpoint, dtype="float32", max_num_seqs=3)
    model = load_model(checkpoint, dtype="float32")
    sequence = [5]
    with torch.inference_mode():
        for _ in range(4):
            sequence.append(int(model(torch.tensor([sequence])).logits[0, -1].argmax()))
    asked = pairs(256, torch.tensor(sequence[1:]))
    settled: list[int] = []
    scores = score_pairs(llm, asked, sequences=3, done=settled.append)
    assert sum(settled) == len(asked)
    for (context, continuation), score in zip(asked, scores, strict=True):
        token_BT = torch.tensor([[*context, *continuation]])
        with torch.inference_mode():
            p_TV = model(token_BT).logits[0, len(context) - 1 : -1].log_softmax(-1)
        expected = p_TV[range(len(continuation)), continuation].sum().item()
        assert score.log_likelihood == pytest.approx(expected, rel=1e-3)  # weights that amplify
        assert score.greedy == (p_TV.argmax(-1).tolist() == list(continuation))
    assert sum(score.greedy for score in scores) >= 2


def test_a_model_without_numbers_has_no_score(checkpoint: Path) -> None:
    llm = LLM(checkpoint, dtype="float32")
    llm.model.model.norm.weight.data.fill_(float("nan"))
    for continuation in ([3], [3, 4]):
        with pytest.raises(GenerationError, match="not numbers"):
            score_pairs(llm, [Pair([1, 2], continuation)], sequences=2, done=lambda count: None)


@pytest.fixture
def harness() -> Any:
    """lm-eval's package with our model in it; warnings of its libraries are its own."""
    pytest.importorskip("lm_eval")
    import lm_eval.evaluator

    import loopcoder.eval.lm_harness.model  # noqa: F401

    return lm_eval


QUESTIONS = [
    {"q": "def add(a, b): return a", "choices": [" + b", " - b", " * b", "\n"], "gold": 0},
    {"q": "for i in range(10):", "choices": ["\n    print(i)", " pass", " def"], "gold": 1},
    {"q": "import numpy as", "choices": [" np", " pd", " plt"], "gold": 0},
    {"q": "x " * 90 + "=", "choices": [" 1", " a very long answer of many words"], "gold": 0},
]
TEXTS = [
    {"text": "def add(left, right):\n    return left + right\n" * 8},
    {"text": "naïve 漢字 ✓"},
    {"text": "x"},
]
PROMPTS = [{"q": f"def {name}(x):\n", "a": "pass"} for name in ("add", "sort", "main")]
TASKS: dict[str, tuple[list[dict], str]] = {
    "choice": (
        QUESTIONS,
        'output_type: multiple_choice\ndoc_to_text: "{{q}}"\ndoc_to_choice: choices\n'
        "doc_to_target: gold\ntarget_delimiter: ''\n"
        "metric_list: [{metric: acc}, {metric: acc_norm}]",
    ),
    "letter": (
        QUESTIONS,
        'output_type: multiple_choice\ndoc_to_text: "{{q}}\\nAnswer:"\n'
        'doc_to_choice: ["A", "B", "C", "D"]\ndoc_to_target: gold\nmetric_list: [{metric: acc}]',
    ),
    "last": (
        QUESTIONS,
        'output_type: loglikelihood\ndoc_to_text: "{{q}}"\ndoc_to_target: "{{choices[gold]}}"\n'
        "target_delimiter: ''\nmetric_list: [{metric: perplexity}, {metric: acc}]",
    ),
    "rolling": (
        TEXTS,
        'output_type: loglikelihood_rolling\ndoc_to_text: ""\ndoc_to_target: "{{text}}"\n'
        "metric_list: [{metric: word_perplexity}, {metric: bits_per_byte}]",
    ),
    "written": (
        PROMPTS,
        'output_type: generate_until\ndoc_to_text: "{{q}}"\ndoc_to_target: "{{a}}"\n'
        'generation_kwargs: {until: ["\\n\\n", "return"], max_gen_toks: 24, do_sample: false}\n'
        "metric_list: [{metric: exact_match}]",
    ),
}


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of task files and their data."""
    folder = tmp_path_factory.mktemp("tasks")
    for name, (rows, settings) in TASKS.items():
        data = folder / f"{name}.jsonl"
        data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        (folder / f"{name}.yaml").write_text(
            f"task: local_{name}\ndataset_path: json\ndataset_kwargs:\n"
            f"  data_files: {{test: {data}}}\n  cache_dir: {folder / 'cache'}\n"
            f"test_split: test\n{settings}\n",
            encoding="utf-8",
        )
    return folder


def samples(harness: Any, model: object, folder: Path, **options: object) -> dict[str, list]:
    """What a model answered to each request of each task, and the scores made of that."""
    from lm_eval.tasks import TaskManager

    results = harness.evaluator.simple_evaluate(
        model=model,
        tasks=[f"local_{name}" for name in TASKS],
        task_manager=TaskManager(include_path=str(folder), include_defaults=False),
        bootstrap_iters=0,
        **options,
    )
    answers = {
        task: [answer for row in rows for answer in row["resps"]]
        for task, rows in results["samples"].items()
    }
    return {**answers, "scores": [results["results"]]}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("chat", [False, True])
def test_scores_are_those_of_hf(harness: Any, tasks: Path, chat: bool) -> None:
    """Also of texts longer than `max_length`: cut on the left, or read in windows."""
    from lm_eval.models.huggingface import HFLM

    import loopcoder.hf  # noqa: F401
    from loopcoder.eval.lm_harness.model import LoopCoderLM

    model = str(locate("loopcoder-nano"))
    ours = LoopCoderLM(model, dtype="float32", max_length=64)
    theirs = HFLM(model, dtype="float32", max_length=64, device="cpu", batch_size=1)
    options = {"apply_chat_template": chat}
    mine, other = (samples(harness, lm, tasks, **options) for lm in (ours, theirs))
    assert mine["local_written"] == other["local_written"]
    assert any(text.strip() for (text,) in mine["local_written"])
    for task in ("local_choice", "local_letter", "local_last"):
        assert len(mine[task]) == len(other[task]) > 0
        for (found,), (expected,) in zip(mine[task], other[task], strict=True):
            assert float(found[0]) == pytest.approx(float(expected[0]), rel=TOLERANCE)
            assert str(found[1]) == str(expected[1])
    for (found,), (expected,) in zip(mine["local_rolling"], other["local_rolling"], strict=True):
        assert float(found) == pytest.approx(float(expected), rel=TOLERANCE)
    for task, values in other["scores"][0].items():
        for metric, value in values.items():
            if isinstance(value, float):
                assert mine["scores"][0][task][metric] == pytest.approx(value, rel=1e-3), metric


@pytest.mark.slow
def test_the_command_runs_lm_eval(tasks: Path, tmp_path: Path) -> None:
    pytest.importorskip("lm_eval")
    command = [sys.executable, "-m", "loopcoder.eval.lm_harness", "run", "--model", "loopcoder"]
    command += ["--model_args", "pretrained=loopcoder-nano,loops=1,max_length=64"]
    command += ["--tasks", "local_choice", "--include_path", str(tasks), "--batch_size", "auto"]
    command += ["--output_path", str(tmp_path / "out")]
    home = {"HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        command,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **home},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (path,) = (tmp_path / "out").rglob("results*.json")
    results = json.loads(path.read_text())
    assert results["config"]["model_loops"] == 1
    assert results["results"]["local_choice"]["acc,none"] > 0


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_the_users_mistake_is_one_line(
    harness: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse() -> None:
        raise RequestError("model_args has beams, which loopcoder does not take")

    monkeypatch.setattr("lm_eval.__main__.cli_evaluate", refuse)
    assert main() == 2
    assert capsys.readouterr().err == (
        "error: model_args has beams, which loopcoder does not take\n"
    )


def test_what_is_missing_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    assert main() == 2
    assert 'pip install "loopcoder[lm-eval]"' in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_mistakes_are_named(harness: Any, checkpoint: Path) -> None:
    from lm_eval.api.instance import Instance

    from loopcoder.eval.lm_harness.model import LoopCoderLM

    for message, options in (
        ("max_length is 255; this model has 256 positions, so give 1 to 254", {"max_length": 255}),
        ("batch_size is 'many'", {"batch_size": "many"}),
        ("model_args has revision", {"revision": "main"}),
    ):
        with pytest.raises(RequestError, match=message):
            LoopCoderLM(str(checkpoint), **options)
    model = LoopCoderLM(str(checkpoint), max_length=20, prefix_token_id=1)

    def ask(kind: str, *arguments: object) -> list:
        instance = Instance(request_type=kind, doc={}, arguments=arguments, idx=0)
        return getattr(model, kind)([instance], disable_tqdm=True)

    for message, kind, arguments in (
        ("a continuation has 21 tokens; 1 to 20", "loglikelihood", ("a", "b" * 21)),
        ("num_beams", "generate_until", ("a", {"num_beams": 2, "max_gen_toks": 3})),
        ("no room to read in", "generate_until", ("a", {"max_gen_toks": 20})),
        ("temperature is -1", "generate_until", ("a", {"temperature": -1.0, "max_gen_toks": 3})),
    ):
        with pytest.raises(RequestError, match=message):
            ask(kind, *arguments)
    with pytest.raises(RequestError, match="no chat template"):
        model.apply_chat_template([{"role": "user", "content": "hello"}])
    assert len(ask("loglikelihood", "a" * 50, "b" * 20)) == 1
    sampled = {"do_sample": True, "temperature": 1.0, "max_gen_toks": 8}
    assert ask("generate_until", "", sampled) == ask("generate_until", "", sampled)
