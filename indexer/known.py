"""What is known of public chains: their names, when silence is suspicious, and the default confirmation policy.

The facts are in `known_chains.toml`, which people may read without reading Python.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from importlib.resources import files

from indexer.core.policy import Policy

UNKNOWN_CHAIN_CONFIRMATIONS = 6
"""What counts on a chain that is not in the table and tells no finality."""


@dataclass(frozen=True, slots=True)
class Tier:
    """``policy`` holds for fiat totals up to ``up_to``, inclusive; None: above all others."""

    up_to: Decimal | None
    policy: Policy


@dataclass(frozen=True, slots=True)
class KnownChain:
    """One chain of the table. ``stall_after`` in seconds; ``tiers`` ascend and end with ``up_to`` None."""

    chain_id: str
    name: str
    stall_after: float
    tiers: tuple[Tier, ...]
    lookback: int | None = None
    """Blocks of an hour and some more, where blocks come faster than the adapter takes for granted."""


def known_chain(chain_id: str) -> KnownChain | None:
    """What is known of the chain with this CAIP-2 id; None if nothing is."""
    return _chains().get(chain_id)


def default_tiers(chain_id: str, has_finality: bool) -> tuple[Tier, ...]:
    """The default policy of a chain, known or not; ``has_finality``: its rail tells which blocks are final."""
    known = known_chain(chain_id)
    if known is not None:
        return known.tiers
    return (Tier(None, Policy(None) if has_finality else Policy(UNKNOWN_CHAIN_CONFIRMATIONS)),)


@cache
def _chains() -> Mapping[str, KnownChain]:
    data = tomllib.loads((files("indexer") / "known_chains.toml").read_text())
    bounds = [*(Decimal(each) for each in data["tiers"]), None]
    return {
        each["id"]: KnownChain(
            chain_id=each["id"],
            name=each["name"],
            stall_after=float(each["stall_after"]),
            tiers=tuple(Tier(*pair) for pair in zip(bounds, map(_policy, each["policy"]), strict=True)),
            lookback=each.get("lookback"),
        )
        for each in data["chain"]
    }


def _policy(text: int | str) -> Policy:
    """From ``12``, ``"finalized"`` or ``"finalized + 128"``."""
    if isinstance(text, int):
        return Policy(text)
    word, _, plus = text.partition(" + ")
    if word != "finalized":
        raise ValueError(f"known_chains.toml: {text!r} is no policy")
    return Policy(None, int(plus or 0))
