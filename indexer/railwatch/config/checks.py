"""Checks across tables: names that must be unique, and names that must exist elsewhere.

They read the raw tables, so that one error lists these problems together with those of the single tables.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from railwatch.config.errors import KeyPath, Problem, format_path
from railwatch.config.references import items
from railwatch.rail.printable import printable, quoted


def cross_checks(tables: Mapping[str, Any]) -> Iterator[Problem]:
    """Return every contradiction between tables."""
    yield from _repeated(
        tables, ((("rail", number, "name"), rail.get("name")) for number, rail in items(tables, "rail"))
    )
    yield from _repeated(
        tables, ((("webhook", number, "name"), each.get("name")) for number, each in items(tables, "webhook"))
    )
    yield from _chains(tables)
    yield from _unfollowed(tables)
    for number, rail in items(tables, "rail"):
        yield from _assets(tables, ("rail", number), rail)
    yield from _policies(tables)


def _repeated(tables: Mapping[str, Any], names: Iterable[tuple[KeyPath, Any]]) -> Iterator[Problem]:
    seen = set()
    for place, name in names:
        if isinstance(name, str) and name in seen:
            yield Problem(format_path(place, tables), f"{quoted(name)} is there twice", "Give each a different name.")
        seen.add(str(name))


def _chains(tables: Mapping[str, Any]) -> Iterator[Problem]:
    """Return rails with the chain of an earlier one: both would report each payment, one as `wrong_network`."""
    first: dict[str, str] = {}
    for number, rail in items(tables, "rail"):
        chain, where = rail.get("chain_id"), format_path(("rail", number), tables)
        if isinstance(chain, str) and chain in first:
            hint = "Keep one of the two tables, with all nodes in it."
            yield Problem(f"{where}.chain_id", f"{quoted(chain)} is the chain of {first[chain]} already", hint)
        elif isinstance(chain, str):
            first[chain] = where


def _unfollowed(tables: Mapping[str, Any]) -> Iterator[Problem]:
    invoices = tables.get("invoices")
    listed = invoices.get("unfollowed_rails") if isinstance(invoices, dict) else None
    names = [rail.get("name") for _, rail in items(tables, "rail")]
    for name in listed if isinstance(listed, list) else ():
        if name in names:
            what = f"{quoted(name)} is configured as a rail"
            yield Problem("invoices.unfollowed_rails", what, "Remove it from one of the two.")


def _assets(tables: Mapping[str, Any], place: KeyPath, rail: dict[str, Any]) -> Iterator[Problem]:
    assets = [((*place, "asset", number), asset) for number, asset in items(rail, "asset")]
    yield from _repeated(tables, (((*at, "symbol"), asset.get("symbol")) for at, asset in assets))
    yield from _repeated(tables, (((*at, "contract"), asset.get("contract")) for at, asset in assets))
    for at, asset in assets:
        if "contract" in asset and "decimals" not in asset:
            where = format_path((*at, "decimals"), tables)
            yield Problem(where, "is missing", "A token needs it: query decimals() of its contract.")
    natives = [at for at, asset in assets if "contract" not in asset]
    for at in natives[1:]:
        where = format_path(at, tables)
        yield Problem(
            where, "is a second asset without a contract", "Set contract: only the chain's native asset has none."
        )


LISTED_MOST = 8
"""Names that one text lists."""


def _listed(names: Collection[str]) -> str:
    more = f" and {len(names) - LISTED_MOST} more" if len(names) > LISTED_MOST else ""
    return (", ".join(printable(each, 60) for each in list(names)[:LISTED_MOST]) or "none") + more


def _policies(tables: Mapping[str, Any]) -> Iterator[Problem]:
    symbols: dict[str, list[str]] = {}
    for _, table in items(tables, "rail"):
        own = [str(asset.get("symbol")) for _, asset in items(table, "asset")]
        symbols.setdefault(str(table.get("name")), []).extend(own)
    seen = set()
    for number, policy in items(tables, "policy"):
        rail, asset, place = policy.get("rail"), policy.get("asset"), ("policy", number)
        if isinstance(rail, str) and rail not in symbols:
            where = format_path((*place, "rail"), tables)
            yield Problem(where, f"there is no rail {quoted(rail)}", f"Configured are: {_listed(symbols)}.")
        elif isinstance(rail, str) and isinstance(asset, str) and asset not in symbols[rail]:
            where = format_path((*place, "asset"), tables)
            known = _listed(symbols[rail])
            yield Problem(where, f"rail {printable(rail, 60)} has no asset {quoted(asset)}", f"It has: {known}.")
        tier = (str(rail), str(asset), str(policy.get("up_to")))
        if tier in seen:
            yield Problem(
                format_path(place, tables), "the same rail, asset and up_to are there twice", "Keep one of them."
            )
        seen.add(tier)
