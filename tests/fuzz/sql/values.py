"""Arguments as SQL expressions: what is likely to reach deep, the ends of each type, and JSON in every bad shape."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

LONG = 1_000_000
HOSTILE_TEXTS = (
    *("", " ", "x" * 200, "x" * 201, "ö" * 1_000, "%", "_", "a/b/c", "webhook:shop", "made good", "operator", "chain"),
    *("\x01\x1b[2J\x1b]8;;https://evil.example\x07", "\x7f\x9b31m", "line\nfeed\ttab\r", "a\u2028b\u2029c"),
    *("\u202eevil\u2066", "\u200b\u200d\ufeff\u00ad", "e\u0301" + "\u0302" * 300, "\ufffe\uffff\U0010ffff"),
    *("'; drop table railwatch.invoices; --", "$1", "%s", "{}", "null", "NaN", "[red]x[/red]", "\\u0000", "İIıi"),
    *("00000000-0000-0000-0000-000000000000", "{00000000-0000-0000-0000-000000000000}", "0x" + "f" * 64),
)
EXTREMES: dict[str, Sequence[str]] = {
    "int4": ("0", "1", "-1", "255", "256", "2147483647", "'-2147483648'::int"),
    "int8": ("0", "1", "-1", "1000000000000", "1000000000001", "9223372036854775807", "'-9223372036854775808'::int8"),
    "float8": ("0", "-1", "'NaN'::float8", "'Infinity'::float8", "'-Infinity'::float8", "1e308", "-1e308", "1e-300"),
    "numeric": (
        *("0", "1", "-1", "0.1", "1.0", "1e77", "'NaN'::numeric", "'Infinity'::numeric", "'-Infinity'::numeric"),
        *("1e78", "'1e130000'::numeric", "'-1e130000'::numeric", "'1e-16000'::numeric", "2^256::numeric"),
        *(
            "(repeat('9', 131072))::numeric",
            "115792089237316195423570985008687907853269984665640564039457584007913129639935",
        ),
    ),
    "bool": ("true", "false"),
    "uuid": (
        "gen_random_uuid()",
        "'00000000-0000-0000-0000-000000000000'::uuid",
        "'ffffffff-ffff-ffff-ffff-ffffffffffff'::uuid",
    ),
    "timestamptz": (
        *("now()", "'infinity'::timestamptz", "'-infinity'::timestamptz", "'4713-01-01 BC'::timestamptz"),
        *("'0001-01-01'::timestamptz", "'10000-01-01'::timestamptz", "'294276-12-31'::timestamptz"),
    ),
    "bytea": (r"'\x'::bytea", r"'\x00ff'::bytea", "decode(repeat('00', 1000000), 'hex')"),
    "text": (f"repeat('x', {LONG})", "repeat(E'\\x1b', 5000)", f"repeat('/', {LONG})", "repeat(chr(8238), 199)"),
}
"""Expressions at the ends of each type, none of which fails by itself."""
CALLERS_OWN = (
    *(
        "null::text::bytea[]",
        "'{{1,2},{3,4}}'::int[]",
        "'1e131073'::numeric",
        "'x'::uuid",
        "E'\\xff'",
        "'\\ud800'::jsonb",
    ),
    *(
        """'"\\u0000"'::jsonb""",
        "'4714-01-01 BC'::timestamptz",
        "'300000-01-01'::timestamptz",
        "9223372036854775808::int8",
    ),
    *("repeat('[', 200000)::jsonb", "'nan'::int", "'0x'::numeric", "'[1:2]={1}'::jsonb[]", "'{a'::text[]", "''::jsonb"),
)
"""Expressions that Postgres refuses before any function is called, or gives another type than the function's."""
MANY = 100_000
COMPOSITES = ("rails", "invoices", "destinations")
"""Tables whose rows are an argument."""


def type_name(kind: str) -> str:
    """Return the type as a cast names it."""
    return f"railwatch.{kind}" if kind in COMPOSITES else kind


def literal(text: str) -> str:
    """Return a text as an SQL expression."""
    if len(text) > 300 and len(set(text)) == 1:
        return f"repeat({literal(text[0])}, {len(text)})"
    return "E'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


@dataclass(frozen=True, slots=True)
class Raw:
    """A piece of JSON as it is written."""

    text: str


BAD_JSON: tuple[Any, ...] = (
    *(None, True, "", " ", 0, -1, 0.5, 2**31, 2**63, 2**64, 10**77, 10**90, [], {}, [[]], [None], {"": None}, "NaN"),
    *("9999-12-31T23:59:59-12:00", "0001-01-01T00:00:00+14:00", "2026-02-30T00:00:00Z", "infinity", "-infinity"),
    *(
        "4713-01-01 BC",
        "2030-01-01T00:00:00+99:99",
        "0000-00-00T00:00:00Z",
        "2030-01-01T24:00:00Z",
        "2030-06-01T00:00:60Z",
    ),
    *(Raw("1e130000"), Raw("-1e130000"), Raw("1e-16000"), Raw("-0"), Raw("1.0"), Raw("1e5"), Raw('"\\ud83d\\ude00"')),
    *(Raw('"\\u202e\\u2066x"'), Raw('"\\u001b[2J"'), Raw('"\\u007f"'), Raw('"\\u200b"'), Raw('"e\\u0301"')),
    *(
        Raw('{"a":' * 40 + "1" + "}" * 40),
        Raw("[" * 3_000 + "]" * 3_000),
        Raw('{"a":1,"a":2}'),
        Raw('"' + "x" * 70_000 + '"'),
    ),
    *(
        Raw("[" + "1," * 9_999 + "1]"),
        Raw('"' + "9" * 100 + '"'),
        Raw('"' + "9" * 78 + '"'),
        "x" * 200,
        "x" * 201,
        "ö" * 200,
    ),
    *(Raw('"\\ud800"'), Raw('"\\u0000"'), Raw("1e131073"), Raw("NaN"), Raw('"\\x"')),
)
"""Values for any place within a request. Those at the end are no JSON for Postgres: the caller's own fault."""


def as_json(value: Any) -> str:
    """JSON text, with `Raw` pieces as they are."""
    pieces: list[str] = []

    def kept(piece: object) -> str:
        assert isinstance(piece, Raw)
        pieces.append(piece.text)
        return f"@@{len(pieces) - 1}@@"

    text = json.dumps(value, default=kept)
    for place, piece in enumerate(pieces):
        text = text.replace(f'"@@{place}@@"', piece)
    return text


def jsonb(value: Any) -> str:
    """Return a value as an SQL expression."""
    return f"{literal(as_json(value))}::jsonb"


@dataclass(slots=True)
class Known:
    """What exists, so that arguments reach what is behind the first check. Filled anew before each batch."""

    ids: dict[str, list[str]] = field(default_factory=dict)
    """By the name of the parameter that accepts them."""
    texts: dict[str, list[str]] = field(default_factory=dict)
    merchants: Sequence[str] = ("shop", "other", "evil")
    addresses: Sequence[str] = ()
    orders: int = 0


class Arguments:
    """Draws arguments by the dice."""

    def __init__(self, dice: random.Random, known: Known, new_address: Callable[[], str]) -> None:
        self._dice, self._known, self._new_address = dice, known, new_address

    def of(self, function: str, name: str, kind: str) -> str:
        """Return an expression for one parameter of that type."""
        dice = self._dice
        chance = dice.random()
        if chance < 0.04:
            return f"null::{type_name(kind)}"
        if chance < 0.06 and kind not in COMPOSITES:
            return dice.choice(CALLERS_OWN)
        if chance < 0.72 and (likely := self._likely(function, name, kind)) is not None:
            return likely
        return self._hostile(kind)

    def _likely(self, function: str, name: str, kind: str) -> str | None:
        dice, known = self._dice, self._known
        if kind == "uuid" and known.ids.get(name):
            return f"'{dice.choice(known.ids[name])}'::uuid"
        if kind == "text" and known.texts.get(name):
            return literal(dice.choice(known.texts[name]))
        if kind == "jsonb":
            return jsonb(self.request())
        if kind == "_jsonb":
            return self._requests()
        if kind in COMPOSITES:
            return f"(select r from railwatch.{kind} r limit 1)"
        if kind in ("int8", "int4", "numeric", "float8"):
            return str(dice.choice((0, 1, 2, 3, 5, 10, 50, 100)))
        return "null::uuid" if kind == "uuid" else None

    def _hostile(self, kind: str) -> str:
        dice = self._dice
        if kind == "text" and dice.random() < 0.8:
            return literal(dice.choice(HOSTILE_TEXTS))
        if kind == "jsonb":
            return jsonb(dice.choice(BAD_JSON))
        if kind == "_jsonb":
            return self._bad_requests()
        if kind in COMPOSITES:
            return f"jsonb_populate_record(null::railwatch.{kind}, jsonb_build_object('state', repeat('x', 1000)))"
        if kind in ("_text", "_bytea"):
            inner = kind[1:]
            return dice.choice(
                (
                    f"'{{}}'::{inner}[]",
                    f"array[null]::{inner}[]",
                    f"'{{{{a,b}},{{c,d}}}}'::{inner}[]",
                    f"array_fill('x'::{inner}, array[{MANY}])",
                    f"array_fill('x'::{inner}, array[3], array[-7])",
                )
            )
        return dice.choice(EXTREMES[kind])

    def _requests(self) -> str:
        return f"array[{', '.join(jsonb(self.request()) for _ in range(self._dice.randint(1, 5)))}]"

    def _bad_requests(self) -> str:
        one = jsonb(self.request())
        return self._dice.choice(
            (
                "'{}'::jsonb[]",
                "array[null]::jsonb[]",
                f"array[{one}, null]",
                f"array[{one}, {one}]",
                f"array[[{one}], [{jsonb(self.request())}]]",
                f"array_fill({one}, array[2], array[-7])",
                f"array_fill('{{}}'::jsonb, array[{MANY}])",
                "array_fill('{}'::jsonb, array[1000])",
                "array_fill('[]'::jsonb, array[10, 10, 10])",
                f"array[{jsonb(self._dice.choice(BAD_JSON))}]",
            )
        )

    def request(self) -> dict[str, Any]:
        """Return a registration, in most cases with something wrong somewhere."""
        dice, known = self._dice, self._known
        known.orders += 1
        ways = [self._way() for _ in range(dice.choice((1, 1, 1, 2, 20)))]
        made: dict[str, Any] = {
            "merchant_id": dice.choice(known.merchants),
            "order_id": f"fuzz {known.orders}" if dice.random() < 0.9 else f"fuzz {known.orders - 1}",
            "expires_in": dice.choice((1, 60, 3_600, 315_360_000)),
            "destinations": ways,
        }
        for name, value in (
            ("policy", {"confirmations": dice.choice((1, 2, 999_999))}),
            ("time_basis", dice.choice(("first_seen", "block_time", "confirmed"))),
            ("tolerance_bps", dice.choice((0, 1, 10_000))),
            ("fiat_amount", dice.choice(("0", "49.90", 49.9, "9" * 30 + ".99999999"))),
            ("fiat_currency", "EUR"),
            ("rate_locked_at", dice.choice(("2009-01-01T00:00:00Z", "2026-11-28T12:00:00+01:00"))),
            ("closes_in", dice.choice((0, 315_360_000))),
            ("accept_before", dice.choice((0, 3_600))),
            ("metadata", {"basket": [1, "zwei", None]}),
        ):
            if dice.random() < 0.15:
                made[name] = value
        for _ in range(dice.choice((0, 0, 1, 1, 2))):
            self._spoil(made)
        return made

    def _way(self) -> dict[str, Any]:
        dice, known = self._dice, self._known
        taken = known.addresses and dice.random() < 0.15
        return {
            "rail": "story" if dice.random() < 0.95 else dice.choice(known.texts["on_rail"]),
            "asset": dice.choice(("COIN", "GOLD")) if dice.random() < 0.95 else dice.choice(known.texts["asset"]),
            "amount": dice.choice((1, "1", 100, "100", 2**256 - 1, str(2**256 - 1))),
            "address": dice.choice(list(known.addresses)) if taken else self._new_address(),
        }

    def _spoil(self, made: dict[str, Any]) -> None:
        dice = self._dice
        place: Any = made
        if dice.random() < 0.5 and isinstance(made.get("destinations"), list) and made["destinations"]:
            place = dice.choice(made["destinations"])
        if not isinstance(place, dict):
            return
        extra = ("metadata", "policy", "derivation", "reference", "unknown", "", "rate_locked_at", "expires_at", "plus")
        key = dice.choice([*place, *extra])
        if dice.random() < 0.15:
            place.pop(key, None)
        elif key == "metadata" and dice.random() < 0.7:
            place[key] = {dice.choice(("a", "", "\u202e", "x" * 1_000, "[red]")): dice.choice(BAD_JSON)}
        elif key == "policy":
            place[key] = {dice.choice(("confirmations", "finalized", "plus")): dice.choice(BAD_JSON)}
        else:
            place[key] = dice.choice(BAD_JSON)
