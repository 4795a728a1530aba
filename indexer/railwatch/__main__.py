"""`python -m railwatch` is `railwatch`."""

from railwatch.cli import main

if __name__ == "__main__":
    main(prog_name="railwatch")
