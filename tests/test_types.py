"""What users hand in: kept as given where it is right, refused by name where it is not."""

import math

import numpy as np
import pytest

from loopcoder.errors import RequestError
from loopcoder.types import SamplingParams


def test_lists_strings_and_numbers_are_brought_to_one_form() -> None:
    params = SamplingParams(
        stop=["a", "b"],
        stop_token_ids=[np.int64(3)],
        temperature=1,
        top_k=np.int32(5),
        logit_bias={"7": 1, 8: -2.5},
    )
    assert params.stop == ("a", "b")
    assert params.stop_token_ids == (3,)
    assert params.logit_bias == {7: 1.0, 8: -2.5}
    assert [type(v) for v in (params.temperature, params.top_k)] == [float, int]
    assert SamplingParams(stop="end").stop == ("end",)
    assert SamplingParams(stop=None, stop_token_ids=None).stop == ()


def test_equal_parameters_are_equal_and_can_be_keys() -> None:
    one, two = (SamplingParams(stop=["x"], logit_bias={1: 2}) for _ in range(2))
    assert one == two
    assert len({one, two}) == 1


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("max_tokens", 0),
        ("max_tokens", 2.5),
        ("max_tokens", None),
        ("min_tokens", -1),
        ("min_tokens", 129),  # beyond max_tokens
        ("n", 0),
        ("n", True),
        ("temperature", -0.1),
        ("temperature", math.nan),
        ("temperature", math.inf),
        ("temperature", "0.5"),
        ("top_p", 0.0),
        ("top_p", 1.5),
        ("top_p", math.nan),
        ("top_k", -2),
        ("top_k", True),
        ("top_k", 1.0),
        ("min_p", 2.0),
        ("presence_penalty", 2.1),
        ("frequency_penalty", -2.1),
        ("repetition_penalty", 0.0),
        ("repetition_penalty", math.inf),
        ("logit_bias", [1]),
        ("logit_bias", {1: 101}),
        ("logit_bias", {1: math.nan}),
        ("logit_bias", {"word": 1}),
        ("logit_bias", {-1: 1}),
        ("seed", 0.5),
        ("seed", 2**64),
        ("stop", ("",)),
        ("stop", 5),
        ("stop", b"end"),
        ("stop", ["a", 1]),
        ("stop_token_ids", 3),
        ("stop_token_ids", [-1]),
        ("stop_token_ids", ["a"]),
        ("include_stop_str_in_output", 1),
        ("ignore_eos", "no"),
        ("skip_special_tokens", None),
        ("logprobs", -2),
        ("logprobs", True),
        ("prompt_logprobs", -2),
        ("loops", 0),
    ],
)
def test_bad_values_name_the_argument(field: str, value: object) -> None:
    with pytest.raises(RequestError, match=field) as error:
        SamplingParams(**{field: value})
    assert "must be" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "fields",
    [
        {"top_k": -1},
        {"logprobs": 0},
        {"logprobs": -1},
        {"seed": -(2**63)},
        {"seed": 2**64 - 1},
        {"temperature": 0},
        {"top_p": 1},
        {"min_p": 1},
        {"min_tokens": 5, "max_tokens": 5},
        {"loops": None},
    ],
)
def test_ends_of_the_ranges_are_inside(fields: dict[str, object]) -> None:
    params = SamplingParams(**fields)
    assert {name: getattr(params, name) for name in fields} == fields
