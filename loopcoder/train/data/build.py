"""`loopcoder data build`: from a recipe to a data directory, all of it or nothing."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from loopcoder.errors import DataError
from loopcoder.train.data import corpus, manifest
from loopcoder.train.data.dedup import deduplicate
from loopcoder.train.data.encode import write_shards
from loopcoder.train.data.files import Document
from loopcoder.train.data.folder import all_or_nothing
from loopcoder.train.data.marks import read_marks
from loopcoder.train.data.mix import mix
from loopcoder.train.data.progress import Progress
from loopcoder.train.data.rank import by_rank
from loopcoder.train.data.recipe import DataRecipe, load_recipe
from loopcoder.train.data.shards import MANIFEST, TOKEN_BYTES
from loopcoder.train.data.sources import gather
from loopcoder.train.data.split import choose_heldout, project_sizes
from loopcoder.train.data.tally import Tally
from loopcoder.train.data.tokenizer import (
    copy_tokenizer,
    is_ours,
    load_tokenizer,
    sample,
    save_tokenizer,
    token_byte_lengths,
    train_tokenizer,
    vocabulary_size,
)

if TYPE_CHECKING:
    from tokenizers import Tokenizer


@dataclass(frozen=True, kw_only=True)
class BuildOptions:
    """What a build may reuse; `force` replaces `out`.

    `from_corpus` is the corpus folder of an earlier build. `tokenizer` is such a build's tokenizer
    folder, or a checkpoint directory whose model is to be trained further, with its own tokenizer.
    """

    out: Path
    from_corpus: Path | None = None
    tokenizer: Path | None = None
    force: bool = False
    quiet: bool = False


def build(recipe_path: Path, options: BuildOptions) -> dict[str, Any]:
    """Build the data directory and return its manifest.

    Raises `ConfigError` for the recipe and `DataError` for a source or an output in the way.
    """
    recipe = load_recipe(recipe_path)
    progress = Progress(quiet=options.quiet)
    with all_or_nothing(options.out, force=options.force) as folder:
        about = _make_corpus(recipe, recipe_path.parent, folder, options, progress)
        tokenizer = _make_tokenizer(recipe, folder, options, progress)
        splits = _make_shards(recipe, folder, tokenizer, progress)
        result = manifest.make(recipe, about, splits, folder)
        corpus.write_json(folder / MANIFEST, result)
    progress.step(f"done: {options.out}")
    return result


def _make_corpus(
    recipe: DataRecipe, base: Path, folder: Path, options: BuildOptions, progress: Progress
) -> dict[str, Any]:
    target = folder / "corpus"
    target.mkdir()
    if options.from_corpus is None:
        return _build_corpus(recipe, base, target, progress)
    about = corpus.read_about(options.from_corpus, recipe.corpus_hash())
    for split in corpus.SPLITS:
        _copy(corpus.split_path(options.from_corpus, split), target)
    _copy(options.from_corpus / corpus.ABOUT, target)
    progress.step(f"corpus taken from {options.from_corpus}")
    return about


def _copy(path: Path, folder: Path) -> None:
    try:
        shutil.copyfile(path, folder / path.name)
    except FileNotFoundError as error:
        raise DataError(f"{path}: missing; give a corpus folder that `data build` made") from error


def _build_corpus(
    recipe: DataRecipe, base: Path, target: Path, progress: Progress
) -> dict[str, Any]:
    tally = Tally()
    sources, documents = gather(recipe, base, tally, progress)
    progress.step(f"{len(documents)} files of {len(sources)} sources pass the filters")
    heldout = choose_heldout(project_sizes(documents), recipe.heldout, recipe.seed)
    # Train first: of two similar files across the split, the held-out one gives way.
    documents.sort(key=lambda document: document.project in heldout)
    documents = deduplicate(documents, recipe.dedup, tally, progress)
    splits = {
        split: mix(_of_split(documents, heldout, split), recipe.mix, recipe.seed, tally)
        for split in corpus.SPLITS
    }
    for split, kept in splits.items():
        if not kept:
            raise DataError(f"recipe {recipe.name}: the {split} split is empty; add sources")
        progress.step(f"writing {len(kept)} documents of the {split} split")
        corpus.write_split(target, split, kept)
    about = manifest.about_corpus(recipe, sources, splits, tally)
    corpus.write_about(target, about)
    return about


def _of_split(documents: list[Document], heldout: frozenset[str], split: str) -> list[Document]:
    wanted = split == "heldout"
    return [document for document in documents if (document.project in heldout) == wanted]


def _make_tokenizer(
    recipe: DataRecipe, folder: Path, options: BuildOptions, progress: Progress
) -> "Tokenizer":
    target = folder / "tokenizer"
    settings = recipe.tokenizer
    if options.tokenizer is not None:
        tokenizer = load_tokenizer(options.tokenizer)
        size = vocabulary_size(tokenizer)
        # The recipe says what is learned here; a model's own tokenizer has the size it has.
        if is_ours(tokenizer) and size != settings.vocab_size:
            raise DataError(
                f"{options.tokenizer}: has {size} tokens, the recipe's "
                f"tokenizer.vocab_size is {settings.vocab_size}; make them agree"
            )
        progress.step(f"tokenizer taken from {options.tokenizer}")
        if not is_ours(tokenizer):
            copy_tokenizer(options.tokenizer, target)
            return tokenizer
    else:
        progress.step(f"learning a tokenizer of {settings.vocab_size} tokens")
        texts = _shuffled_texts(recipe, folder, "train")
        tokenizer = train_tokenizer(sample(texts, settings.sample_bytes), settings.vocab_size)
    save_tokenizer(tokenizer, target)
    return tokenizer


def _shuffled_texts(recipe: DataRecipe, folder: Path, split: str) -> list[str]:
    documents = corpus.read_split(folder / "corpus", split)
    return [document.text for document in by_rank(documents, recipe.seed)]


def _make_shards(
    recipe: DataRecipe, folder: Path, tokenizer: "Tokenizer", progress: Progress
) -> dict[str, Any]:
    np.save(folder / TOKEN_BYTES, token_byte_lengths(tokenizer), allow_pickle=False)
    marks = read_marks(folder / "tokenizer", tokenizer)
    splits = {}
    for split in corpus.SPLITS:
        texts = _shuffled_texts(recipe, folder, split)
        shown = progress.track(f"encoding {split}", texts, len(texts))
        splits[split] = write_shards(folder, split, shown, tokenizer, marks, recipe.shards.tokens)
    return splits
