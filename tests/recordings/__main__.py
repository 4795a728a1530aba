"""Make the recordings anew, and the ledgers that follow from them: ``python -m tests.recordings [NAME ...]``."""

import asyncio
import sys
from pathlib import Path

from tests.recordings.ledgers import expected_of, played, write_expected
from tests.recordings.stories import STORIES

FOLDER = Path(__file__).parent


def main(names: list[str]) -> None:
    """Record, play, and write down what came out, to be looked through before it is committed."""
    for name in names or list(STORIES):
        file = FOLDER / f"{name}.rec.gz"
        file.unlink(missing_ok=True)
        asyncio.run(STORIES[name](file))
        file.chmod(0o644)
        outcome = played(file)
        write_expected(file, expected_of(outcome))
        print(f"{file.name}: {file.stat().st_size:,} bytes, {outcome.answers} answers; missing: {outcome.missing}")


if __name__ == "__main__":
    main(sys.argv[1:])
