"""Fill in the middle: the special tokens that code models are trained with, by their spellings."""

from typing import Any

from loopcoder.errors import RequestError

# prefix, suffix, middle: Qwen's and ours, StarCoder's, DeepSeek's
_SPELLINGS = (
    ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"),
    ("<fim_prefix>", "<fim_suffix>", "<fim_middle>"),
    ("<\uff5cfim\u2581begin\uff5c>", "<\uff5cfim\u2581hole\uff5c>", "<\uff5cfim\u2581end\uff5c>"),
)


def infill_prompt(tokenizer: Any, prefix: str, suffix: str) -> str:
    """The prompt after which a model writes what stands between `prefix` and `suffix`.

    Raises `RequestError` for a tokenizer without such tokens.
    """
    known = tokenizer.get_vocab()
    for before, after, middle in _SPELLINGS:
        if {before, after, middle} <= known.keys():
            return f"{before}{prefix}{after}{suffix}{middle}"
    raise RequestError(
        "suffix asks for text in the middle, and this model's tokenizer has no tokens for it "
        f"(such as {_SPELLINGS[0][0]}); leave suffix out"
    )
