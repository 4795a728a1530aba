"""Logs: JSON elsewhere than on a terminal, and never a secret, wherever it occurs."""

import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from railwatch.ops.logs import configure_logging
from railwatch.redaction import HIDDEN, forget

SECRET = "hunter2-hunter2"


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers, root.level = handlers, level
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()
    forget()


def events(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def test_an_event_is_a_line_of_json_with_its_context(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging()
    structlog.contextvars.bind_contextvars(rail="shop")
    structlog.get_logger().info("rail.live", height=5)
    (event,) = events(capsys)
    assert event.pop("timestamp").endswith("Z")
    assert event == {"event": "rail.live", "level": "info", "rail": "shop", "height": 5}


def test_secrets_are_hidden_in_texts_tables_and_tracebacks(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(secrets=[SECRET, "x"])
    log = structlog.get_logger()
    log.warning(f"at http://u:{SECRET}@node", node={"url": [SECRET]}, reason=ValueError(SECRET))
    try:
        int(SECRET)
    except ValueError:
        log.exception("failed")
    logging.getLogger("library").error("could not use %s", SECRET)
    text = capsys.readouterr().err
    assert SECRET not in text
    assert text.count(HIDDEN) >= 5
    assert "Traceback" in text


def test_libraries_speak_in_the_same_form(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging()
    logging.getLogger("library").warning("slow")
    logging.getLogger("aiohttp.access").info("GET /metrics")
    (event,) = events(capsys)
    assert (event["event"], event["level"]) == ("slow", "warning")


def test_the_level_is_kept(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(level="warning")
    structlog.get_logger().info("quiet")
    structlog.get_logger().warning("loud")
    assert [each["event"] for each in events(capsys)] == ["loud"]


def test_people_get_no_json(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("console")
    structlog.get_logger().info("rail.live", height=5)
    text = capsys.readouterr().err
    assert "rail.live" in text
    assert "height=5" in text
    assert "{" not in text
