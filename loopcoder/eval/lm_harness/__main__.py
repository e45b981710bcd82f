"""lm-eval's command line with the model `loopcoder` in it."""

import sys
from importlib.util import find_spec

from loopcoder.errors import LoopCoderError


def main() -> int:
    """Run lm-eval with this process's arguments; 2 where the user's input is wrong."""
    if find_spec("lm_eval") is None:
        print('error: lm-eval is not installed; pip install "loopcoder[lm-eval]"', file=sys.stderr)
        return 2
    from lm_eval.__main__ import cli_evaluate

    import loopcoder.eval.lm_harness.model  # noqa: F401  # registers it

    try:
        cli_evaluate()
    except LoopCoderError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
