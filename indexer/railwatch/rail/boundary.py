"""The boundary of an adapter: three errors leave it and nothing else, whatever happens inside.

An unexpected exception over one node's answer is that node's problem, and temporary: the daemon backs off and asks
another node. Without this boundary, one KeyError would halt a rail until an operator came.
"""

from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from railwatch.rail.errors import AdapterDefect, RailError

__all__ = ["only_rail_errors"]

P = ParamSpec("P")
T = TypeVar("T")


def only_rail_errors(method: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, Coroutine[Any, Any, T]]:
    """Let `RailError` and cancellations pass; raise `AdapterDefect` from every other exception.

    The message leaves out the exception's own words: they could hold a URL, and with it an API key.
    """

    @wraps(method)
    async def bounded(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return await method(*args, **kwargs)
        except RailError:
            raise
        except Exception as error:
            raise AdapterDefect(f"{_name_of(method, args)} met an unexpected {type(error).__name__}") from error

    return bounded


def _name_of(method: Callable[..., object], args: tuple[object, ...]) -> str:
    """Return the method's name, with the class of the adapter and not the one that defines it."""
    name = getattr(method, "__name__", "an adapter")
    return f"{type(args[0]).__name__}.{name}" if args and hasattr(args[0], name) else name
