"""`python -m indexer` is `railwatch`."""

from indexer.cli import main

if __name__ == "__main__":
    main(prog_name="railwatch")
