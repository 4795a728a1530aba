"""End each text file with exactly one newline, for pre-commit: returns 1 where a file was changed."""

import sys
from pathlib import Path


def main(names: list[str]) -> int:
    """Rewrite the files that end otherwise, and print their names."""
    changed = 0
    for path in map(Path, names):
        before = path.read_bytes()
        after = before.rstrip(b"\n") + b"\n" if before.strip() else b""
        if after != before:
            path.write_bytes(after)
            print(path)
            changed = 1
    return changed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
