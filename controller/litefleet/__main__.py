"""`python -m litefleet`: the command line."""

from litefleet_controller.cli import main

if __name__ == "__main__":
    main()
