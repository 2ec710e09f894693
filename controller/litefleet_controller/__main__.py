"""`python -m litefleet_controller` is `litefleet`."""

from .cli import main

main()
