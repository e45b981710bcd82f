"""What the papers leave open about the measures, as options that every record names."""

from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

from loopcoder.errors import RequestError

State = Literal["u", "h"]


@dataclass(frozen=True, kw_only=True)
class Conventions:
    """The defaults are those of the table in SPEC.md section 5.

    Raises `RequestError`, naming the field, for a value that is no choice.
    """

    step_state: State = "u"  # step size, update angle, fixed-point gap
    offset_state: State = "h"  # offset cost
    rank_state: State = "h"  # effective rank
    rank_rows: Literal["rms", "as_is"] = "rms"  # each state divided by its root mean square, or not
    shift_direction: Literal["to_previous", "from_previous"] = "to_previous"  # KL(p^r | p^{r-1})
    attention_branch: Literal["mixed", "global"] = "mixed"  # the map that shifts are taken of
    first_token: int = 0  # positions before it are left out of every mean

    def __post_init__(self) -> None:
        """Check every field against its type's choices."""
        for field in fields(self):
            value, choices = getattr(self, field.name), get_args(field.type)
            if choices and value not in choices:
                raise RequestError(
                    f"{field.name} is {value!r}; choose one of {', '.join(map(repr, choices))}"
                )
        if not isinstance(self.first_token, int) or self.first_token < 0:
            raise RequestError(
                f"first_token is {self.first_token!r}; it must be a whole number, 0 or more"
            )

    def of(self, measure: str) -> dict[str, Any]:
        """Those that decide `measure`, for its record."""
        values = asdict(self)
        return {name: values[name] for name in ("first_token", *_DECIDES.get(measure, ()))}


_DECIDES = {
    "step_size": ("step_state",),
    "update_angle": ("step_state",),
    "fixed_point_gap": ("step_state",),
    "offset_cost": ("offset_state",),
    "effective_rank": ("rank_state", "rank_rows"),
    "output_shift": ("shift_direction",),
    "peak_share": ("shift_direction",),
    "attention_shift": ("attention_branch", "shift_direction"),
}
