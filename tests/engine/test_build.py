"""How much memory an engine gets."""

from typing import Any

import pytest

from loopcoder.engine import build
from loopcoder.engine.build import EngineSettings, build_engine
from loopcoder.errors import ConfigError, RequestError
from tests.engine.helpers import small_plt

PAGE = 2 * 2 * 2 * 8 * 16 * 8  # layers, keys and values, groups, tokens, width, float64


def test_default_memory_holds_every_sequence_at_full_length() -> None:
    engine = build_engine(small_plt(), EngineSettings(max_num_seqs=3), max_model_len=50, loops=2)
    need = engine.scheduler.ledger.need(50, 2)
    assert engine.memory.shape.page_bytes == PAGE
    assert 3 * need <= engine.memory.pages <= 3 * (need + 1)
    assert engine.scheduler.limits.rows == 512


def test_default_memory_is_a_share_of_what_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "_free_bytes", lambda _: 100 * PAGE)
    engine = build_engine(small_plt(), EngineSettings(), max_model_len=200, loops=2)
    assert engine.memory.pages == 50


def test_one_sequence_fits_even_where_little_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "_free_bytes", lambda _: 0)
    engine = build_engine(small_plt(), EngineSettings(), max_model_len=200, loops=2)
    assert engine.memory.pages >= engine.scheduler.ledger.need(200, 2)


@pytest.mark.parametrize("extra", [0, 1, PAGE - 1])
def test_memory_asked_for_is_never_exceeded(extra: int) -> None:
    settings = EngineSettings(kv_cache_memory_bytes=12 * PAGE + extra)
    engine = build_engine(small_plt(), settings, max_model_len=200, loops=2)
    assert engine.memory.pages == 12
    with pytest.raises(RequestError, match="a full sequence"):
        build_engine(small_plt(), EngineSettings(kv_cache_memory_bytes=1), max_model_len=9, loops=1)


def test_settings_reach_the_engine() -> None:
    settings = EngineSettings(
        max_num_batched_tokens=7, schedule="serial", prefill="full", enable_prefix_caching=False
    )
    engine = build_engine(small_plt(), settings, max_model_len=9, loops=1)
    wavefront = engine.scheduler.wavefront
    assert engine.scheduler.limits.rows == 7
    assert (wavefront.serial, wavefront.tail, engine.scheduler.ledger.reuse) == (True, False, False)


@pytest.mark.parametrize("value", [True, 0, -3, 1.5, "8"])
@pytest.mark.parametrize(
    "name", ["max_num_seqs", "max_num_batched_tokens", "kv_cache_memory_bytes"]
)
def test_numbers_out_of_range_are_named(name: str, value: object) -> None:
    with pytest.raises(RequestError, match=f"{name} is {value!r}"):
        EngineSettings(**{name: value})


def test_variants_are_refused_where_there_are_later_loops() -> None:
    """One loop is the same model in any variant."""
    serial: dict[str, Any] = {"plt_loop_offset": 0, "plt_gated_window": False}
    build_engine(small_plt(plt_num_loops=1, **serial), EngineSettings(), max_model_len=9, loops=1)
    with pytest.raises(ConfigError, match="plt_loop_offset 0, plt_gated_window false"):
        build_engine(small_plt(**serial), EngineSettings(), max_model_len=9, loops=1)
