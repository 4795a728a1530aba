"""What the daemon says while it runs: one event a line on stderr, JSON for machines, columns for people, no secrets."""

import json
import logging
import sys
from collections.abc import Collection
from ipaddress import ip_address
from typing import Any, Literal

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from railwatch.config import Config
from railwatch.rail.printable import escaped_json, printable
from railwatch.redaction import hidden, hide

TEXT_MOST, TRACE_MOST = 4_000, 40_000
"""Characters of one value of an event, and of a traceback."""
OPEN_LISTENER = (
    "metrics and health have no password, and other machines can reach them; "
    "listen on 127.0.0.1, or let only the monitoring system through"
)
TRACES = ("exception", "stack")
"""Keys whose values have several lines, which we have made ourselves."""


def configure_logging(
    output: Literal["auto", "json", "console"] = "auto", level: str = "info", secrets: Collection[str] = ()
) -> None:
    """Set up structlog, and the standard library's loggers with it. ``secrets`` never appear, wherever they stand."""
    hide(secrets)
    console = output == "console" or (output == "auto" and sys.stderr.isatty())
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
        # Tracebacks become text before secrets are hidden, since they quote what went wrong.
        structlog.processors.format_exc_info,
        Redactor(escape=console),
    ]
    renderer: Processor = (
        structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
        if console
        else structlog.processors.JSONRenderer(_to_json, default=str, ensure_ascii=False)
    )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    # Libraries speak up only when something is wrong; our own level is kept by structlog's filter above.
    root.setLevel(logging.DEBUG if level == "debug" else logging.INFO)
    for noisy in ("aiohttp", "asyncio", "web3", "websockets", "urllib3"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def warn_of_exposed(config: Config) -> None:
    """Say at the start which files with secrets others can read, and where anybody on the network may ask."""
    for sentence in config.exposed:
        structlog.get_logger().warning("config.exposed", reason=sentence)
    for place, address in (("http", config.http.address), ("deliver", config.deliver.address)):
        if address is not None and not is_loopback(address[0]):
            structlog.get_logger().warning("http.exposed", table=place, reason=OPEN_LISTENER)


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach ``host``."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class Redactor:
    """A processor that hides secrets in every text of an event, its keys included, also within lists and tables.

    ``escape``: what is invisible is escaped as well, as a terminal needs it; JSON escapes by itself.
    """

    def __init__(self, *, escape: bool) -> None:
        self._escape = escape

    def __call__(self, logger: WrappedLogger, name: str, event: EventDict) -> EventDict:
        """As structlog calls it."""
        return {
            self._hide(key): self._trace(value) if key in TRACES else self._hide(value) for key, value in event.items()
        }

    def _hide(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {self._hide(str(key)): self._hide(each) for key, each in value.items()}
        if isinstance(value, list | tuple | set | frozenset):
            return [self._hide(each) for each in value]
        if value is None or isinstance(value, bool | int | float) or _is_internal(value):
            return value
        words = hidden(str(value))
        return printable(words, TEXT_MOST) if self._escape else shortened(words, TEXT_MOST)

    def _trace(self, value: Any) -> Any:
        """A traceback keeps its lines, each moved to the right on a terminal: none of them passes for an event."""
        if not isinstance(value, str):
            return value
        words = shortened(hidden(value), TRACE_MOST)
        return "\n".join(f"  {printable(line)}" for line in words.split("\n")) if self._escape else words


def _is_internal(value: object) -> bool:
    """What structlog passes along with an event for itself."""
    return isinstance(value, logging.LogRecord | type)


def shortened(text: str, most: int) -> str:
    """Return the text's beginning and end, where it is longer than ``most`` characters."""
    return text if len(text) <= most else f"{text[: most // 2]} ... {text[-most // 2 :]}"


def _to_json(event: EventDict, **options: Any) -> str:
    return escaped_json(json.dumps(event, **options))
