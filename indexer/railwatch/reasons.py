"""Failures in words: the innermost cause and its place, in one line that any table, log and page can hold."""

import re
import traceback

from railwatch.rail.printable import LONGEST, printable
from railwatch.redaction import hidden

OURS = re.compile(r"/railwatch(_[a-z]+)?/(?!.*/site-packages/)")
"""A file of one of our packages, wherever they are installed; a checkout may be called railwatch too."""


def innermost(defect: BaseException) -> BaseException:
    """Return the cause that a group of exceptions hides; of several, the first."""
    while isinstance(defect, BaseExceptionGroup):
        defect = defect.exceptions[0]
    return defect


def one_line(text: str) -> str:
    """Return the text without secrets, with what is invisible escaped, and not longer than `LONGEST`."""
    return printable(hidden(text), LONGEST)


def describe(defect: BaseException) -> str:
    """Return what an unexpected failure was, and the line of code that it came from."""
    cause = innermost(defect)
    frames = traceback.extract_tb(cause.__traceback__)
    ours = [frame for frame in frames if OURS.search(frame.filename)]
    place = ""
    if ours or frames:
        frame = (ours or frames)[-1]
        place = f" in {frame.name}, {frame.filename.rsplit('/', 1)[-1]} line {frame.lineno}"
    return one_line(f"{type(cause).__name__}: {cause}{place}")
