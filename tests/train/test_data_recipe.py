from pathlib import Path

import pytest

import loopcoder.recipes
from loopcoder.errors import ConfigError
from loopcoder.train.data.recipe import DataRecipe, load_recipe, parse_recipe

BUNDLED = sorted(Path(next(iter(loopcoder.recipes.__path__))).glob("*_data.toml"))
FOLDER = {"name": "a", "path": "a", "licence": "MIT"}


@pytest.mark.parametrize("path", BUNDLED, ids=lambda path: path.stem)
def test_every_bundled_recipe_loads(path: Path) -> None:
    assert load_recipe(path).name


def test_the_smoke_recipe_needs_no_network() -> None:
    path = next(path for path in BUNDLED if path.stem == "smoke_data")
    assert load_recipe(path).packages == ()


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"folders": [FOLDER], "sed": 1}, "unknown key sed"),
        ({"folders": [FOLDER], "mix": {"txt": 1}}, "unknown key mix.txt"),
        ({"folders": [FOLDER | {"url": "x"}]}, "unknown key folders.0.url"),
        ({"packages": ["flask>=3"]}, "not of the form name==version"),
        ({"packages": ["flask==3.*"]}, "not of the form name==version"),
        ({"packages": ["../x==1"]}, "not of the form name==version"),
        ({"packages": ["flask==3.1", "Flask==3.0"]}, "sources named twice: flask"),
        ({}, "no sources"),
        ({"folders": [FOLDER], "heldout": {"fraction": 0}}, "heldout.fraction"),
        ({"folders": [FOLDER], "mix": {"text": 0, "code": 0}}, "both 0"),
        ({"folders": [FOLDER], "seed": "one"}, "seed"),
        ({"folders": [FOLDER], "tokenizer": {"vocab_size": 10}}, "tokenizer.vocab_size"),
    ],
)
def test_a_wrong_recipe_is_one_line_that_names_file_and_key(
    values: dict[str, object], expected: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_recipe({"name": "x", **values}, "some.toml")
    assert str(caught.value).startswith("some.toml: ")
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_files_that_are_not_recipes(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"absent\.toml: no such recipe"):
        load_recipe(tmp_path / "absent.toml")
    (tmp_path / "bad.toml").write_text("name = ")
    with pytest.raises(ConfigError, match=r"bad\.toml: not a TOML file"):
        load_recipe(tmp_path / "bad.toml")


def test_the_corpus_hash_ignores_tokenizer_and_shards() -> None:
    def recipe(**values: object) -> DataRecipe:
        return parse_recipe({"name": "x", "folders": [FOLDER], **values}, "x")

    plain, small, other = recipe(), recipe(tokenizer={"vocab_size": 600}), recipe(seed=9)
    assert plain.corpus_hash() == small.corpus_hash() != other.corpus_hash()
    assert len({plain.hash(), small.hash(), other.hash()}) == 3
