"""`python -m loopcoder` is the `loopcoder` command."""

from loopcoder.cli.main import main

main()
