"""The part of the conformance kit that depends on the client: what it serves, and in which words it refuses.

Waking, failing and closing are the adapter's own affair, and the same in each dialect. So every run plays this part in
every dialect, and the whole kit in a few; ``make dialects`` plays all of it in all of them.
"""

from railwatch.conformance.base import Conformance
from railwatch.conformance.pending import PendingChecks
from railwatch.conformance.scanning import ScanningChecks
from railwatch.conformance.transfers import TransferChecks


class ClientChecks(TransferChecks, ScanningChecks):
    """Transfers, spans and look-backs, as one client reports them."""


class ClientPendingChecks(ClientChecks, PendingChecks):
    """And what waits, on rails that report it."""


__all__ = ["ClientChecks", "ClientPendingChecks", "Conformance"]
