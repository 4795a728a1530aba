"""RPC methods about transactions that have landed."""

from collections.abc import Mapping
from typing import Any

from railwatch_solana.dev.devnode.chain import Chain
from railwatch_solana.dev.devnode.errors import invalid
from railwatch_solana.dev.devnode.method import Method, context
from railwatch_solana.dev.devnode.params import BlockConfig, HistoryConfig, Params, converted, signature, slot_of
from railwatch_solana.dev.devnode.show_block import show_landed

STATUSES_MAX = 256
PAGE_MAX = 1000


class HistoryMethods:
    """Reads of what the chain has indexed."""

    def __init__(self, chain: Chain) -> None:
        self._chain = chain

    def table(self) -> Mapping[str, Method]:
        """Each method under its name on the wire."""
        return {
            "getSignatureStatuses": self.statuses,
            "getSignaturesForAddress": self.history,
            "getTransaction": self.transaction,
            "getTransactionCount": lambda _: self._chain.landed_count,
        }

    def transaction(self, params: Params) -> dict[str, Any] | None:
        """Return a transaction with its outcome, or null if it is unknown at the commitment."""
        name, config = signature(params.get(0, str)), params.config(1, BlockConfig)
        newest = slot_of(self._chain, config, at_least_confirmed=True)
        block, landed = self._chain.by_signature.get(name, (None, None))
        if block is None or landed is None or block.slot > newest:
            return None
        return {"slot": block.slot, "blockTime": block.time} | show_landed(landed, config)

    def statuses(self, params: Params) -> dict[str, Any]:
        """How far each of these transactions has come."""
        names = converted(params.raw(0), list[str])
        if len(names) > STATUSES_MAX:
            raise invalid(f"Too many inputs provided; max {STATUSES_MAX}")
        return context(self._chain.processed, [self.status(signature(name)) for name in names])

    def status(self, name: str) -> dict[str, Any] | None:
        """One transaction's status; ``confirmations`` are the blocks above it, null once it is finalized."""
        block, landed = self._chain.by_signature.get(name, (None, None))
        if block is None or landed is None:
            return None
        reached, err = self._chain.commitment_of(block.slot), landed.meta.err
        return {
            "slot": block.slot,
            "confirmations": None if reached == "finalized" else self._chain.tip.height - block.height,
            "err": err,
            "status": {"Ok": None} if err is None else {"Err": err},
            "confirmationStatus": reached,
        }

    def history(self, params: Params) -> list[dict[str, Any]]:
        """Return the transactions that name a key, newest first."""
        key, config = params.key(0), params.config(1, HistoryConfig)
        newest = slot_of(self._chain, config, at_least_confirmed=True)
        limit = PAGE_MAX if config.limit is None else config.limit
        if not 1 <= limit <= PAGE_MAX:
            raise invalid(f"Invalid limit; max {PAGE_MAX}")
        found: list[dict[str, Any]] = []
        if config.before is not None and config.before not in self._chain.by_signature:
            return []  # As Agave answers for a signature that it does not know.
        ends = None if config.before is None else self._place(config.before)
        for block, landed in reversed(self._chain.by_key.get(key, [])):
            if landed.signature == config.until or len(found) == limit:
                break
            if block.slot <= newest and (ends is None or self._place(landed.signature) < ends):
                found.append(
                    {
                        "signature": landed.signature,
                        "slot": block.slot,
                        "err": landed.meta.err,
                        "memo": None,
                        "blockTime": block.time,
                        "confirmationStatus": self._chain.commitment_of(block.slot),
                    }
                )
        return found

    def _place(self, name: str) -> tuple[int, int]:
        """Return a transaction's slot, and its place in the block."""
        block, landed = self._chain.by_signature[name]
        return block.slot, next(at for at, each in enumerate(block.landed) if each is landed)
