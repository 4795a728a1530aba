"""Signatures by the Standard Webhooks convention: https://github.com/standard-webhooks/standard-webhooks."""

from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID

from standardwebhooks import Webhook


class Signer:
    """A signer with every currently valid secret, newest first: a receiver needs to know one of them."""

    def __init__(self, secrets: Sequence[str]) -> None:
        self._signers = [Webhook(each) for each in secrets]

    def headers(self, event_id: UUID, body: bytes, now: datetime | None = None) -> dict[str, str]:
        """Return the three headers. The signature covers the time of the attempt; receivers reject old ones."""
        now = now or datetime.now(UTC)
        name, text = str(event_id), body.decode()
        return {
            "webhook-id": name,
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": " ".join(each.sign(name, now, text) for each in self._signers),
        }

    def __repr__(self) -> str:
        return f"Signer({len(self._signers)} secrets)"
