"""What is known of public chains: their names, when silence is suspicious, and the default confirmation policy.

The facts are in `known_chains.toml`, which people may read without reading Python.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from importlib.resources import files
from typing import Any

from railwatch.core.policy import Policy

UNKNOWN_CHAIN_CONFIRMATIONS = 6
"""What counts on a chain that is not in the table and reports no finality."""


@dataclass(frozen=True, slots=True)
class Tier:
    """``policy`` holds for fiat totals up to ``up_to``, inclusive; None: above all others."""

    up_to: Decimal | None
    policy: Policy


@dataclass(frozen=True, slots=True)
class KnownChain:
    """One chain of the table; ``tiers`` ascend and end with ``up_to`` None.

    ``stall_after``, ``finality_stall_after`` and ``time_margin`` are in seconds, as the configuration's keys of that
    name.
    """

    chain_id: str
    name: str
    stall_after: float
    tiers: tuple[Tier, ...]
    finality_stall_after: float | None = None
    time_margin: int | None = None
    lookback: int | None = None
    """Blocks of an hour and some more, where blocks come faster than the adapter assumes."""

    @property
    def paces(self) -> Mapping[str, float]:
        """The configuration's keys that have another default here."""
        known = {key: getattr(self, key) for key in ("stall_after", "finality_stall_after", "time_margin")}
        return {key: value for key, value in known.items() if value is not None}


def known_chain(chain_id: str) -> KnownChain | None:
    """Return what is known of the chain with this CAIP-2 id, or None."""
    return _chains().get(chain_id)


def paces(chain_id: str) -> Mapping[str, float]:
    """Return the keys of a rail's configuration that have another default on this chain."""
    if chain_id in _table()["development"]["chains"]:
        return {"stall_after": 0, "finality_stall_after": 0}
    known = known_chain(chain_id)
    return known.paces if known else {}


def known_lookback(chain_id: str) -> int | None:
    """Return how many blocks cover an hour and some more on this chain; None where the adapter knows better."""
    known = known_chain(chain_id)
    return known.lookback if known else None


def default_tiers(chain_id: str, has_finality: bool) -> tuple[Tier, ...]:
    """Return the default policy of a chain, known or not. ``has_finality``: its rail reports which blocks are final."""
    known = known_chain(chain_id)
    if known is not None:
        return known.tiers
    return (Tier(None, Policy(None) if has_finality else Policy(UNKNOWN_CHAIN_CONFIRMATIONS)),)


@cache
def _chains() -> Mapping[str, KnownChain]:
    data = _table()
    bounds = [*(Decimal(each) for each in data["tiers"]), None]
    return {
        each["id"]: KnownChain(
            chain_id=each["id"],
            name=each["name"],
            stall_after=float(each["stall_after"]),
            tiers=tuple(Tier(*pair) for pair in zip(bounds, map(_policy, each["policy"]), strict=True)),
            finality_stall_after=each.get("finality_stall_after"),
            time_margin=each.get("time_margin"),
            lookback=each.get("lookback"),
        )
        for each in data["chain"]
    }


@cache
def _table() -> Mapping[str, Any]:
    return tomllib.loads((files("railwatch") / "known_chains.toml").read_text())


def _policy(text: int | str) -> Policy:
    """From ``12``, ``"finalized"`` or ``"finalized + 128"``."""
    if isinstance(text, int):
        return Policy(text)
    word, _, plus = text.partition(" + ")
    if word != "finalized":
        raise ValueError(f"known_chains.toml: {text!r} is no policy")
    return Policy(None, int(plus or 0))
