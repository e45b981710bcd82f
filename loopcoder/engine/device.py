"""The device that a user asked for, if it is there."""

import torch

from loopcoder.errors import RequestError


def usable_device(name: str) -> torch.device:
    """`name`, where "auto" is the GPU if there is one. Raises `RequestError` if it is not there."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise RequestError(f"device is {name!r}, which cannot be used here: {reason}") from error
    return device
