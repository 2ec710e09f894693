"""`python -m litefleet`: the command line."""

from litefleet_controller.__main__ import main

if __name__ == "__main__":
    main()
