"""Logs: one event a line on stderr, JSON for machines, columns for people, without secrets."""

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
"""Maximum characters of one value of an event, and of a traceback."""
OPEN_LISTENER = (
    "metrics and health pages have no password, and other machines can reach this address; "
    "set listen to 127.0.0.1:PORT, or let only the monitoring system through a firewall"
)
TRACES = ("exception", "stack")
"""Keys whose values have several lines of our own."""


def configure_logging(
    output: Literal["auto", "json", "console"] = "auto", level: str = "info", secrets: Collection[str] = ()
) -> None:
    """Set up structlog and the standard library's loggers. No event shows a text of ``secrets``."""
    hide(secrets)
    console = output == "console" or (output == "auto" and sys.stderr.isatty())
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
        # Tracebacks become text before the redactor runs, because they quote values.
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
    # Libraries log only problems; the filter of structlog above applies our own level.
    root.setLevel(logging.DEBUG if level == "debug" else logging.INFO)
    for noisy in ("aiohttp", "asyncio", "web3", "websockets", "urllib3"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def warn_of_exposed(config: Config) -> None:
    """Log files with secrets that others can read, and health pages that the network can reach."""
    for sentence in config.exposed:
        structlog.get_logger().warning("config.exposed", reason=sentence)
    for place, address in (("http", config.http.address), ("deliver", config.deliver.address)):
        if address is not None and not is_loopback(address[0]):
            structlog.get_logger().warning("http.exposed", table=place, reason=OPEN_LISTENER)


def is_loopback(host: str) -> bool:
    """Return True if only this machine can reach ``host``."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class Redactor:
    """A processor that hides secrets in every text of an event: in keys, values, lists and mappings.

    ``escape``: escape invisible characters as well, for a terminal; JSON escapes by itself.
    """

    def __init__(self, *, escape: bool) -> None:
        self._escape = escape

    def __call__(self, logger: WrappedLogger, name: str, event: EventDict) -> EventDict:
        """Return the event without secrets; structlog calls this."""
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
        """Return a traceback with its lines, indented on a terminal so that none of them resembles an event."""
        if not isinstance(value, str):
            return value
        words = shortened(hidden(value), TRACE_MOST)
        return "\n".join(f"  {printable(line)}" for line in words.split("\n")) if self._escape else words


def _is_internal(value: object) -> bool:
    """Return True for a value that structlog adds for itself."""
    return isinstance(value, logging.LogRecord | type)


def shortened(text: str, most: int) -> str:
    """Return the text, or its beginning and end if it is longer than ``most`` characters."""
    return text if len(text) <= most else f"{text[: most // 2]} ... {text[-most // 2 :]}"


def _to_json(event: EventDict, **options: Any) -> str:
    return escaped_json(json.dumps(event, **options))
