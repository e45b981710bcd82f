import pytest

from loopcoder.train.data.licences import judge

OSI = "Classifier: License :: OSI Approved"


@pytest.mark.parametrize(
    ("fields", "licence"),
    [
        ("License-Expression: MIT", "MIT"),
        ("License-Expression: Apache-2.0 OR BSD-3-Clause", "Apache-2.0 OR BSD-3-Clause"),
        ("License-Expression: (MIT AND 0BSD) OR ISC", "(MIT AND 0BSD) OR ISC"),
        (f"{OSI} :: MIT License", "MIT"),
        (f"{OSI} :: BSD License\n{OSI} :: MIT License", "BSD-3-Clause AND MIT"),
        (f"{OSI}\nLicense: BSD", "BSD-3-Clause"),
        ("License: Apache License, Version 2.0", "Apache-2.0"),
        ("License: The MIT License\n        Copyright by somebody", "MIT"),
    ],
)
def test_permissive_licences_pass(fields: str, licence: str) -> None:
    verdict = judge(f"Metadata-Version: 2.4\nName: x\n{fields}\n\nText\n".encode())
    assert (verdict.licence, verdict.refusal) == (licence, None)


@pytest.mark.parametrize(
    ("fields", "refusal"),
    [
        ("License-Expression: GPL-3.0-only", "GPL-3.0-only"),
        ("License-Expression: MIT AND LGPL-2.1-or-later", "LGPL-2.1-or-later"),
        ("License-Expression: Apache-2.0 WITH LLVM-exception", "Apache-2.0 WITH LLVM-exception"),
        (f"{OSI} :: MIT License\n{OSI} :: GNU General Public License (GPL)", "GPL"),
        ("License: Proprietary", "Proprietary"),
        ("License: UNKNOWN", "states no licence"),
        ("Author: somebody", "states no licence"),
    ],
)
def test_anything_else_is_refused_with_the_reason(fields: str, refusal: str) -> None:
    verdict = judge(f"Metadata-Version: 2.4\nName: x\n{fields}\n\nLicense: MIT\n".encode())
    assert verdict.refusal is not None
    assert refusal in verdict.refusal


def test_no_metadata_is_refused() -> None:
    assert judge(None).refusal == "no PKG-INFO in the archive"


def test_a_recipe_can_narrow_the_list() -> None:
    metadata = b"License-Expression: MIT\n\n"
    assert judge(metadata, ("MIT",)).refusal is None
    assert judge(metadata, ("ISC",)).refusal == "not on the list of allowed licences: MIT"
