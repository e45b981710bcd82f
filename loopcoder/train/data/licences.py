"""Whether a source distribution's own metadata says that its licence is permissive."""

import re
from collections.abc import Collection
from dataclasses import dataclass
from email.message import Message
from email.parser import BytesParser
from email.policy import compat32

# SPDX names; a recipe's `licences` replaces this list.
PERMISSIVE = frozenset(
    {
        "0BSD", "Apache-2.0", "BSD-1-Clause", "BSD-2-Clause", "BSD-3-Clause", "BSL-1.0", "CC0-1.0",
        "CC-BY-4.0", "CNRI-Python", "HPND", "ISC", "MIT", "MIT-0", "MIT-CMU", "NCSA", "PSF-2.0",
        "Python-2.0", "Unlicense", "Zlib", "ZPL-2.1",
    }
)  # fmt: skip

_CLASSIFIERS = {
    "Apache Software License": "Apache-2.0",
    "BSD License": "BSD-3-Clause",
    "Boost Software License 1.0 (BSL-1.0)": "BSL-1.0",
    "CC0 1.0 Universal (CC0 1.0) Public Domain Dedication": "CC0-1.0",
    "Historical Permission Notice and Disclaimer (HPND)": "HPND",
    "ISC License (ISCL)": "ISC",
    "MIT License": "MIT",
    "MIT No Attribution License (MIT-0)": "MIT-0",
    "Python Software Foundation License": "PSF-2.0",
    "The Unlicense (Unlicense)": "Unlicense",
    "Zope Public License": "ZPL-2.1",
    "zlib/libpng License": "Zlib",
}

# Free text of the old `License` field, lower case and without punctuation, to SPDX names.
_ALIASES = {
    "0bsd": "0BSD",
    "apache": "Apache-2.0",
    "apache 2": "Apache-2.0",
    "apache 2 0": "Apache-2.0",
    "apache 2 0 license": "Apache-2.0",
    "apache license": "Apache-2.0",
    "apache license 2 0": "Apache-2.0",
    "apache license version 2 0": "Apache-2.0",
    "apache software license": "Apache-2.0",
    "apache software license 2 0": "Apache-2.0",
    "apache software license apache 2 0": "Apache-2.0",
    "bsd": "BSD-3-Clause",
    "bsd 2 clause": "BSD-2-Clause",
    "bsd 3 clause": "BSD-3-Clause",
    "bsd 3 clause license": "BSD-3-Clause",
    "bsd license": "BSD-3-Clause",
    "isc": "ISC",
    "mit": "MIT",
    "mit license": "MIT",
    "modified bsd": "BSD-3-Clause",
    "modified bsd license": "BSD-3-Clause",
    "new bsd": "BSD-3-Clause",
    "new bsd license": "BSD-3-Clause",
    "psf": "PSF-2.0",
    "the mit license": "MIT",
}


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The licence as the metadata states it, and why it is refused (None: it is allowed)."""

    licence: str
    refusal: str | None


def judge(pkg_info: bytes | None, allowed: Collection[str] = PERMISSIVE) -> Verdict:
    """Decide from PKG-INFO: the SPDX expression, else the classifiers, else the licence field.

    Every licence that is named must be allowed, also where the expression offers a choice.
    """
    if pkg_info is None:
        return Verdict(licence="unknown", refusal="no PKG-INFO in the archive")
    metadata = BytesParser(policy=compat32).parsebytes(pkg_info, headersonly=True)
    stated = _stated(metadata)
    if not stated:
        return Verdict(licence="unknown", refusal="the metadata states no licence")
    licence = " AND ".join(stated) if len(stated) > 1 else stated[0]
    named = [name for text in stated for name in _named(text)]
    unknown = sorted(set(named) - set(allowed))
    refusal = f"not on the list of allowed licences: {', '.join(unknown)}" if unknown else None
    return Verdict(licence=licence, refusal=refusal)


def _stated(metadata: Message) -> list[str]:
    if expression := metadata.get("License-Expression"):
        return [str(expression).strip()]
    classifiers = [str(value) for value in metadata.get_all("Classifier", [])]
    names = [value.split(" :: ")[-1] for value in classifiers if value.startswith("License :: ")]
    specific = sorted({name for name in names if name != "OSI Approved"})
    if specific:
        return [_CLASSIFIERS.get(name, name) for name in specific]
    return _from_free_text(str(metadata.get("License", "")))


def _from_free_text(text: str) -> list[str]:
    first = text.strip().split("\n")[0].strip()
    if not first or first == "UNKNOWN":
        return []
    plain = " ".join(re.findall(r"[a-z0-9]+", first.lower()))
    return [_ALIASES.get(plain, first)]


def _named(expression: str) -> list[str]:
    """The licences of an SPDX expression; `X WITH exception` counts as one."""
    parts = re.split(r"\s+(?:AND|OR|and|or)\s+|[()]", expression)
    return [part.strip() for part in parts if part.strip()]
