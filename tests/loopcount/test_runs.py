"""What is read, what is passed over, and one clear line for what cannot be compared."""

import json
from pathlib import Path

import numpy as np
import pytest

from loopcoder.errors import RecordError
from loopcoder.loopcount import Evidence, advise, as_run, read_evidence
from tests.loopcount.rows import (
    bench,
    bits_of,
    evidence,
    samples,
    source,
    text_sizes,
    trained_at,
    write,
    write_json,
)


def _rows(name: str = "a", trained: int = 2, documents: int = 10, **kwargs: object) -> list:
    sizes = text_sizes(documents)
    bits = bits_of(sizes, [2.0] * trained, 0.01, trained)
    return samples(source(name, trained, **kwargs), bits, sizes)


def _read(*paths: Path) -> tuple[Evidence, list[str]]:
    said: list[str] = []
    return read_evidence(paths, say=said.append), said


def test_a_directory_is_searched_and_others_files_are_named(tmp_path: Path) -> None:
    write(tmp_path / "r2" / "probe.jsonl", _rows())
    write_json(tmp_path / "decode.json", bench({1: 1.0, 2: 1.1}))
    (tmp_path / "metrics.jsonl").write_text('{"kind": "train", "step": 10, "loss": 9.2}\n')
    write_json(tmp_path / "config.json", {"hidden_size": 256})
    found, said = _read(tmp_path)
    assert [Path(run.name).name for run in found.runs] == ["probe.jsonl"]
    assert len(found.benches) == 1
    assert len(said) == 1
    assert "metrics.jsonl" in said[0]
    assert "config.json" in said[0]


def test_a_file_given_twice_counts_once(tmp_path: Path) -> None:
    path = write(tmp_path / "probe.jsonl", _rows())
    found, said = _read(tmp_path, path)
    assert len(found.runs) == 1
    assert said == [f"{path}: given twice, counted once"]


def test_a_copy_is_no_second_seed(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", _rows())
    write(tmp_path / "b.jsonl", _rows())
    found, _ = _read(tmp_path)
    with pytest.raises(RecordError, match=r"a\.jsonl and .*b\.jsonl are the same measurement"):
        advise(found)


def test_two_models_in_one_file(tmp_path: Path) -> None:
    path = write(tmp_path / "mixed.jsonl", [*_rows("a"), *_rows("b")])
    with pytest.raises(RecordError, match=r"mixed\.jsonl: rows of several models.*model-b"):
        _read(path)


def test_two_texts_in_one_file(tmp_path: Path) -> None:
    path = write(tmp_path / "mixed.jsonl", [*_rows("a"), *_rows("a", data="other")])
    with pytest.raises(RecordError, match=r"mixed\.jsonl: rows of several texts"):
        _read(path)


def test_one_file_twice_in_itself() -> None:
    with pytest.raises(RecordError, match="is there 2 times; files were joined"):
        as_run("joined.jsonl", [*_rows(), *_rows()])


def test_two_architectures() -> None:
    runs = [as_run(f"{n}.jsonl", _rows(n, t, architecture=n)) for n, t in (("a", 1), ("b", 2))]
    with pytest.raises(RecordError, match=r"a\.jsonl is of model-a.*b\.jsonl of model-b"):
        advise(evidence(*runs))


@pytest.mark.parametrize("other", [{"data": "other"}, {"length": 128}])
def test_two_texts(other: dict) -> None:
    runs = [as_run("a.jsonl", _rows("a", 1)), as_run("b.jsonl", _rows("b", 2, **other))]
    with pytest.raises(
        RecordError, match=r"a\.jsonl was measured on text .*b\.jsonl on .*one text"
    ):
        advise(evidence(*runs))


def test_documents_of_other_sizes() -> None:
    other = [row.model_copy(update={"bytes": row.bytes + 1}) for row in _rows("b", 2)]
    with pytest.raises(RecordError, match="stands for"):
        advise(evidence(as_run("a.jsonl", _rows("a", 1)), as_run("b.jsonl", other)))


def test_losses_that_do_not_fit_the_loops() -> None:
    row = _rows()[0].model_copy(update={"nats": [1.0]})
    with pytest.raises(RecordError, match="1 losses for 2 loops"):
        as_run("a.jsonl", [row])


def test_an_interrupted_run_is_compared_on_what_it_has() -> None:
    long, short = _rows("a", 1, 30), _rows("b", 2, 30)[:20]
    advice = advise(evidence(as_run("a.jsonl", long), as_run("b.jsonl", short)), resamples=499)
    assert {level.units for level in advice.tables[0].levels} == {20}
    assert any("10 samples are not in every run" in line for line in advice.caveats)


def test_runs_that_share_no_sample() -> None:
    long, short = _rows("a", 1, 30)[20:], _rows("b", 2, 30)[:20]
    with pytest.raises(RecordError, match="share no sample"):
        advise(evidence(as_run("a.jsonl", long), as_run("b.jsonl", short)))


def test_another_schema_version(tmp_path: Path) -> None:
    path = write(tmp_path / "old.jsonl", _rows())
    path.write_text(path.read_text().replace('"schema":1', '"schema":9'))
    with pytest.raises(RecordError, match=r"old\.jsonl, line 1: written in schema version 9"):
        _read(tmp_path)


def test_an_empty_file(tmp_path: Path) -> None:
    path = tmp_path / "empty.jsonl"
    path.touch()
    with pytest.raises(RecordError, match=r"empty\.jsonl: has no rows"):
        _read(path)


def test_a_file_that_is_cut_off(tmp_path: Path) -> None:
    path = write(tmp_path / "probe.jsonl", _rows())
    path.write_text(path.read_text()[:-40])
    with pytest.raises(RecordError, match=r"probe\.jsonl, line 10: not JSON"):
        _read(tmp_path)


def test_nothing_usable(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="no record files in"):
        _read(tmp_path)
    with pytest.raises(RecordError, match="No such file"):
        _read(tmp_path / "missing.jsonl")
    write_json(tmp_path / "decode.json", bench({1: 1.0, 2: 1.1}))
    with pytest.raises(RecordError, match="not what they gain"):
        _read(tmp_path)


def test_a_named_file_must_be_ours(tmp_path: Path) -> None:
    metrics = tmp_path / "metrics.jsonl"
    metrics.write_text('{"kind": "train", "step": 10}\n')
    with pytest.raises(RecordError, match=r"metrics\.jsonl, line 1: a row without a schema"):
        _read(metrics)
    config = write_json(tmp_path / "config.json", {"a": 1})
    with pytest.raises(RecordError, match=r"config\.json: no object of `loopcoder bench"):
        _read(config)
    config.write_text("{")
    with pytest.raises(RecordError, match=r"config\.json: not JSON"):
        _read(config)


def test_a_bench_with_broken_parts(tmp_path: Path) -> None:
    write(tmp_path / "probe.jsonl", _rows())
    write_json(tmp_path / "b.json", {**bench({1: 1.0}), "rows": {}})
    with pytest.raises(RecordError, match=r"b\.json: rows is no list"):
        _read(tmp_path)


def test_a_bench_of_another_shape(tmp_path: Path) -> None:
    write(tmp_path / "probe.jsonl", _rows())
    write_json(tmp_path / "decode.json", bench({1: 1.0, 2: 1.1}, width=5120))
    found, _ = _read(tmp_path)
    with pytest.raises(RecordError, match=r"decode\.json was measured on bench-model with width"):
        advise(found)


def test_the_order_of_files_does_not_change_the_advice(tmp_path: Path) -> None:
    for loops in (1, 2, 3):
        write(tmp_path / f"r{loops}.jsonl", list(trained_at(loops, 1.8 - 0.1 * loops).rows))
    write_json(tmp_path / "slow.json", bench({1: 1.0, 2: 1.3, 3: 1.4}))
    write_json(tmp_path / "fast.json", bench({1: 1.0, 2: 1.1, 3: 1.2}))
    paths = sorted(tmp_path.iterdir())
    texts = set()
    for seed in range(6):
        order = [paths[i] for i in np.random.default_rng(seed).permutation(len(paths))]
        texts.add(json.dumps(advise(_read(*order)[0], resamples=499).to_dict()))
    assert len(texts) == 1
