"""Adapters that break one rule each, in the kit's own themes; `base.BREAKAGES` holds them all after this import."""

from tests.conformance.mutants import (
    balances,
    chain,
    failures,
    identity,
    lifecycle,
    pending,
    reorgs,
    scanning,
    transfers,
)
from tests.conformance.mutants.base import BREAKAGES

__all__ = [
    "BREAKAGES",
    "balances",
    "chain",
    "failures",
    "identity",
    "lifecycle",
    "pending",
    "reorgs",
    "scanning",
    "transfers",
]
