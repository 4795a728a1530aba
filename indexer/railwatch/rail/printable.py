"""Text from outside, made fit for a terminal, a log, a page, a reason or a file: one function for all of them.

What cannot be seen is written as an escape (``\\x1b``, ``\\u202e``), so that it is seen and does nothing: control
characters of both sets, bidirectional overrides, characters of no width, separators of lines, halves of surrogates.
"""

import re

__all__ = ["LONGEST", "escaped", "escaped_json", "is_visible", "printable", "quoted"]

LONGEST = 1_000
"""Characters of one text, unless the caller says otherwise."""

INVISIBLE = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)
"""What Python calls printable and no screen shows: fillers, joiners, selectors (Default_Ignorable), blanks."""


def printable(text: object, most: int = LONGEST) -> str:
    """Return ``text`` with all that is invisible escaped, in one line of at most ``most`` characters.

    What is longer ends with three dots. Anything but a text is written out first. Raises nothing.
    """
    try:
        words = str(text)
    except ValueError:
        # Python refuses to write out a number of more than 4,300 digits.
        words = "a number of thousands of digits"
    shown = escaped(words[: most + 1])
    return shown if len(shown) <= most else shown[: max(0, most - 3)] + "..."


def quoted(value: object, most: int = 80) -> str:
    """Return a value as it is named in a sentence: between quotes, printable, and short enough to leave room for it."""
    try:
        words = repr(value)
    except ValueError:
        words = "a number of thousands of digits"
    return printable(words, most)


def escaped(text: str, keep: str = "") -> str:
    """Return the whole ``text`` with what is invisible escaped, but the characters of ``keep``."""
    if text.isprintable() and not INVISIBLE.search(text):
        return text
    return "".join(each if each in keep or is_visible(each) else _escape(each) for each in text)


def is_visible(character: str) -> bool:
    """Return whether a character is seen where it is printed, a blank included."""
    return character.isprintable() and not INVISIBLE.match(character)


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


def escaped_json(document: str) -> str:
    """Return a JSON document with what is invisible in its texts escaped as JSON escapes it: nothing is lost.

    Line feeds stay: inside a text a serializer has escaped them already.
    """
    if document.isprintable() and not INVISIBLE.search(document):
        return document
    return "".join(each if each == "\n" or is_visible(each) else _escape_json(each) for each in document)


def _escape_json(character: str) -> str:
    pairs = character.encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{pairs[at : at + 4]}" for at in range(0, len(pairs), 4))
