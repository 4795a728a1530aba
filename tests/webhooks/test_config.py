"""Endpoints in the configuration: what is refused, in which words, and that no secret is among them."""

from pathlib import Path
from typing import Any

import pytest

from railwatch.config import ConfigError, load_config
from railwatch.config.webhooks import EVENT_TYPES
from railwatch.core.states import SETTLED_STATES
from railwatch.store.database import Database
from railwatch.store.webhooks import like_pattern
from tests.webhooks.process import write_config
from tests.webhooks.receiver import OLD_SECRET, SECRET
from tests.webhooks.shop import webhook

URL = "https://shop.example/hook/key-in-the-path"


def problems(folder: Path, *webhooks: dict[str, Any], **replaced: str) -> list[str]:
    path = write_config(folder, "postgresql:///x", *webhooks)
    text = path.read_text()
    for was, becomes in replaced.items():
        text = text.replace(was, becomes)
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert "key-in-the-path" not in str(caught.value)
    return [str(each) for each in caught.value.problems]


def test_a_good_one(tmp_path: Path) -> None:
    config = load_config(write_config(tmp_path, "postgresql:///x", webhook(URL, old_secret=OLD_SECRET)))
    [endpoint] = config.webhooks
    assert (endpoint.place, endpoint.secrets) == ("https://shop.example", (SECRET, OLD_SECRET))
    assert {URL, SECRET, OLD_SECRET} <= config.secrets()
    assert SECRET not in repr(config)
    assert URL not in repr(config)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"secret": "whsec_c2hvcnQ="}, "webhook[shop].secret: is no webhook secret"),
        ({"secret": SECRET.removeprefix("whsec_")}, "webhook[shop].secret: is no webhook secret"),
        ({"secret": "whsec_" + "!" * 40}, "webhook[shop].secret: is no webhook secret"),
        ({"url": "ftp://shop.example/key-in-the-path"}, "webhook[shop].url: is no URL that starts with https://"),
        ({"url": "https://me:pw@shop.example/key-in-the-path"}, "webhook[shop].url: must have a host, and no user"),
        *(
            ({"url": f"{url}key-in-the-path"}, f"webhook[shop].url: {words}")
            for url, words in {
                "https:shop.example/": "must have a host",
                "https:///": "must have a host",
                "https://[::1]x/": "",
                "https://[fe80::1%25lo]/": "has no valid host",
                "https://x:/": "has no valid host",
                "https://x:0/": "has no valid host",
                "https://sh\top.example/": "is a URL of more than 4,000 characters, or",
                "https://xn--a/": "has no valid host",
                f"https://{'a.' * 130}example/": "has no valid host",
                "https://[::1/": "is no URL",
                "https://[]/": "is no URL",
                "https://[shop]/": "",
                "https://shop.example:port/": "is no URL",
                "https://shop.example:99999/": "is no URL",
                "https://x..y/": "has no valid host",
                "https://shop example/": "has no valid host",
                "https://-shop.example/": "has no valid host",
                "https://2130706433/": "has an address in an unusual notation",
                "https://127.1/": "has an address in an unusual notation",
                "https://0x7f.1/": "has an address in an unusual notation",
                "https://0177.0.0.1/": "has an address in an unusual notation",
                "https://shop.0x7f/": "has an address in an unusual notation",
            }.items()
        ),
        ({"events": ["invoice.payed"]}, "match no event: 'invoice.payed'; did you mean 'invoice.paid'?"),
        ({"events": []}, "webhook[shop].events"),
        ({"name": "a b"}, "webhook[a b].name: 'a b' is no name"),
        ({"secrets": "x"}, 'unknown key. Did you mean "secret"?'),
        ({"concurrency": 65}, "webhook[shop].concurrency"),
    ],
)
def test_what_is_wrong_is_reported_without_what_may_be_secret(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    found = problems(tmp_path, webhook(URL) | change)
    assert any(message in each for each in found), found
    assert SECRET.removeprefix("whsec_") not in str(found)


def test_a_secret_that_is_not_there(tmp_path: Path) -> None:
    [found] = problems(tmp_path, webhook(URL), **{'"shop.secret"': '"missing.secret"'})
    assert found.startswith("webhook[shop].secret_file: ")
    assert "missing.secret cannot be read" in found


def test_names_are_unique_and_networks_are_networks(tmp_path: Path) -> None:
    assert any("'shop' is there twice" in each for each in problems(tmp_path, webhook(URL), webhook(URL)))
    assert any(
        "deliver.allow: holds '10.0.0.1/8', which is not a network" in each
        for each in problems(tmp_path, webhook(URL), **{'"127.0.0.0/8"': '"10.0.0.1/8"'})
    )


@pytest.mark.parametrize(
    ("pattern", "fits", "does_not"),
    [
        ("invoice.late_paid", "invoice.late_paid", "invoice.late-paid"),
        ("invoice.*", "invoice.paid", "detection.final"),
        ("exception.*.reversed", "exception.open.reversed", "exception.open.late"),
        ("invoice.%", "invoice.%", "invoice.paid"),
    ],
)
async def test_only_the_star_matches_anything(database: Database, pattern: str, fits: str, does_not: str) -> None:
    assert await database.value("select $1::text like $2", fits, like_pattern(pattern))
    assert not await database.value("select $1::text like $2", does_not, like_pattern(pattern))


async def test_the_types_that_patterns_are_checked_against_are_those_of_the_feed(database: Database) -> None:
    """The SQL function and the configuration must not drift apart."""
    for subject, to_state, reason, kind in [
        ("invoice", "late_paid", "confirmed", "invoice.late_paid"),
        ("invoice", "created", "reversed", "invoice.reversed"),
        *(("invoice", settled, "reversed", f"invoice.{settled}") for settled in sorted(SETTLED_STATES)),
        ("detection", "orphaned", "orphaned", "detection.orphaned"),
        ("exception", "open", "reversed", "exception.open.reversed"),
        ("exception", "resolved", "underpaid", "exception.resolved.underpaid"),
    ]:
        assert await database.value("select railwatch.event_type($1, $2, $3)", subject, to_state, reason) == kind
        assert kind in EVENT_TYPES
