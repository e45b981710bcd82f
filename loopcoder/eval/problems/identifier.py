"""A field that must be a name, for it is looked up in, and written into, programs."""

import keyword
from typing import Annotated

from pydantic import AfterValidator


def _name(text: str) -> str:
    if not text.isidentifier() or keyword.iskeyword(text):
        raise ValueError(f"is {text!r}, which names no function")
    return text


Identifier = Annotated[str, AfterValidator(_name)]
