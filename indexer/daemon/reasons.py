"""Failures in words: the innermost cause and its place, in one line that any table, log and page can hold."""

import traceback

LONGEST = 1_000
"""Characters of a reason."""


def innermost(defect: BaseException) -> BaseException:
    """Return the cause that a group of exceptions hides; of several, the first."""
    while isinstance(defect, BaseExceptionGroup):
        defect = defect.exceptions[0]
    return defect


def one_line(text: str) -> str:
    """Return the text without control characters, which a node may have sent, and not longer than `LONGEST`."""
    clean = "".join(character if character.isprintable() else " " for character in text)
    return clean if len(clean) <= LONGEST else clean[: LONGEST - 3] + "..."


def describe(defect: BaseException) -> str:
    """Return what an unexpected failure was, and the line of code that it came from."""
    cause = innermost(defect)
    frames = traceback.extract_tb(cause.__traceback__)
    ours = [frame for frame in frames if "/indexer/" in frame.filename or "/adapters/" in frame.filename]
    place = ""
    if ours or frames:
        frame = (ours or frames)[-1]
        place = f" in {frame.name}, {frame.filename.rsplit('/', 1)[-1]} line {frame.lineno}"
    return one_line(f"{type(cause).__name__}: {cause}{place}")
