"""Ids that are derived from what they name: the same facts give the same ids on every replay (HAZARDS P1, P7)."""

from hashlib import sha1
from uuid import UUID

EVENT_NAMESPACE = UUID("5b7f4f0e-6a3b-5c1e-9d43-7a1c3b0d9e21")

_SEEDED = sha1(EVENT_NAMESPACE.bytes, usedforsecurity=False)
_CLEARED = ~((0xC000 << 48) | (0xF000 << 64))
_MARKED = (0x8000 << 48) | (5 << 76)


def derived_id(name: str) -> UUID:
    """Return the version 5 UUID of ``name`` in our namespace (RFC 9562, 5.5).

    A step derives four ids for each payment. This is `uuid.uuid5` with the namespace hashed once for all of them.
    """
    digest = _SEEDED.copy()
    digest.update(name.encode())
    return UUID(int=int.from_bytes(digest.digest()[:16], "big") & _CLEARED | _MARKED)


def detection_id(rail: str, tx_id: str, tx_index: str) -> UUID:
    """Return the id of a transfer's detection: a replay finds the same row (HAZARDS P1)."""
    return derived_id(f"{rail}/{tx_id}/{tx_index}")


def balance_id(destination: UUID, asset: str) -> UUID:
    """Return the id of the row that holds a destination's balance of an asset."""
    return derived_id(f"balance/{destination}/{asset}")


def event_id(subject: UUID, version: int, to_state: str, block_hash: str | None) -> UUID:
    """Return the id of a transition: the same move of the same row in the same block has the same id."""
    return derived_id(f"{subject}/{version}/{to_state}/{block_hash or ''}")


def exception_id(invoice: UUID, kind: str, subject: object, occurrence: int) -> UUID:
    """Return the id of an exception: the nth of its kind about one subject of an invoice."""
    return derived_id(f"case/{invoice}/{kind}/{subject}/{occurrence}")
