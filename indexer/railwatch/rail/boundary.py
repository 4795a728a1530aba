"""Where an adapter ends: the three errors leave it, and nothing else, whatever happens inside.

Anything unexpected from one node is that node's trouble, and temporary: the daemon backs off and asks another. Without
this, one KeyError over an answer that nobody foresaw would end a rail until a person came.
"""

from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from railwatch.rail.errors import AdapterDefect, RailError

P = ParamSpec("P")
T = TypeVar("T")


def only_rail_errors(method: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, Coroutine[Any, Any, T]]:
    """Let `RailError` pass, and a cancellation; make `AdapterDefect` of every other exception, with it as the cause.

    Its own words are left out: they could hold a URL, and with it an API key.
    """

    @wraps(method)
    async def bounded(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return await method(*args, **kwargs)
        except RailError:
            raise
        except Exception as error:
            name = getattr(method, "__qualname__", "an adapter")
            raise AdapterDefect(f"{name} met an unexpected {type(error).__name__}") from error

    return bounded
