"""A panic inside the Rust libraries is turned into an error, so that one bad request never ends the node."""

from collections.abc import Iterator
from contextlib import contextmanager


class Panicked(ValueError):
    """The library gave up on this input."""


@contextmanager
def contained() -> Iterator[None]:
    """Run Rust on foreign bytes. Raises `Panicked` for a panic, which is no `Exception` and has no importable class."""
    try:
        yield
    except BaseException as error:
        if type(error).__name__ != "PanicException":
            raise
        raise Panicked(str(error)) from error
