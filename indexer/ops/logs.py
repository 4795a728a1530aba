"""What the daemon says while it runs: one event a line on stderr, JSON for machines, columns for people, no secrets."""

import logging
import sys
from collections.abc import Collection
from typing import Literal

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

HIDDEN = "**********"
SHORTEST_SECRET = 4
"""Characters. Hiding every "1" would hide the news with the secret."""


def configure_logging(
    output: Literal["auto", "json", "console"] = "auto", level: str = "info", secrets: Collection[str] = ()
) -> None:
    """Set up structlog, and the standard library's loggers with it. ``secrets`` never appear, wherever they stand."""
    console = output == "console" or (output == "auto" and sys.stderr.isatty())
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
        # Tracebacks become text before secrets are hidden, since they quote what went wrong.
        structlog.processors.format_exc_info,
        Redactor(secrets),
    ]
    renderer: Processor = (
        structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
        if console
        else structlog.processors.JSONRenderer(default=str, ensure_ascii=False)
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


class Redactor:
    """A processor that hides secrets in every text of an event, also within lists and tables."""

    def __init__(self, secrets: Collection[str]) -> None:
        self._secrets = sorted((each for each in secrets if len(each) >= SHORTEST_SECRET), key=len, reverse=True)

    def __call__(self, logger: WrappedLogger, name: str, event: EventDict) -> EventDict:
        """As structlog calls it."""
        return {key: self._hide(value) for key, value in event.items()} if self._secrets else event

    def _hide(self, value: object) -> object:
        if isinstance(value, str):
            for secret in self._secrets:
                value = value.replace(secret, HIDDEN)
            return value
        if isinstance(value, dict):
            return {key: self._hide(each) for key, each in value.items()}
        if isinstance(value, list | tuple):
            return [self._hide(each) for each in value]
        if isinstance(value, BaseException):
            return self._hide(str(value))
        return value
