"""What a node's own index knows of an account: its token accounts and signatures, and a transaction by signature."""

from typing import Any

from railwatch.rail import RailFault, RailUnavailable
from railwatch.rail.again import OTHERS
from railwatch_solana import wire
from railwatch_solana.rpc import Rpc
from railwatch_solana.rpc_errors import UNSUPPORTED_VERSION, NullResult, RpcRejected
from railwatch_solana.wire import AccountKey, Accounts, Sent, Transaction

CONFIRMED = {"commitment": "confirmed"}
NO_DATA = {**CONFIRMED, "encoding": "base64", "dataSlice": {"offset": 0, "length": 0}}
PROGRAMS = ("TokenkegQfeZyiNwAJbNbGKPFXCWuBvf9Ss623VQ5DA", "TokenzQdBNbLqP5VEhdkAS6EPFLC1PHnBqCXEpPxuEb")
"""SPL Token and Token-2022: the only programs whose accounts a node counts as token balances."""
PAGE, PAGES = 1_000, 5
"""Signatures in one answer, and answers for one account: what is held in memory for one stretch of slots."""


class TooMany(Exception):
    """An account has more transactions than it is worth to ask for one by one."""


class AccountIndex:
    """One node's index."""

    def __init__(self, rpc: Rpc) -> None:
        self._rpc = rpc

    async def token_accounts(self, owner: str, since: int) -> list[str]:
        """Return the owner's token accounts of both programs, from a node that has reached slot ``since``.

        Raises `RpcRejected` where there is no such index, `RailUnavailable` where the node that answered is behind
        (HAZARDS S15): what it does not know of yet is not nothing.
        """
        found: list[str] = []
        options = {**NO_DATA, "minContextSlot": since}
        for program in PROGRAMS:
            held = await self._rpc.read(
                wire.held_decoder, "getTokenAccountsByOwner", owner, {"programId": program}, options
            )
            if held.context.slot < since:
                raise RailUnavailable(
                    f"{self._rpc.name} getTokenAccountsByOwner: its index is at slot {held.context.slot}, and slot "
                    f"{since} was asked for: a node behind this endpoint is behind"
                )
            found += [each.pubkey for each in held.value]
        return found

    async def signatures(
        self, account: str, above: int, since: int, before: str | None = None
    ) -> list[tuple[str, int]]:
        """(signature, slot) of what succeeded and names the account, in slots over ``above``.

        ``before``: only what is older than this signature, which need not name the account (Agave, blockstore.rs,
        `get_confirmed_signatures_for_address2`). Only from a node that has come to slot ``since``: the list itself does
        not say what its node had seen, and a signature that it does not know has nothing before it. Raises `TooMany`,
        and `RailUnavailable` as above.
        """
        found: list[tuple[str, int]] = []
        options: dict[str, Any] = {**CONFIRMED, "limit": PAGE, "minContextSlot": since}
        options |= {} if before is None else {"before": before}
        for _ in range(PAGES):
            page = await self._rpc.read(wire.signed_decoder, "getSignaturesForAddress", account, options)
            found += [(each.signature, each.slot) for each in page if each.slot > above and each.err is None]
            if len(page) < PAGE or page[-1].slot <= above:
                return found
            options["before"] = page[-1].signature
        raise TooMany(f"{account} has more than {PAGE * PAGES:,} transactions above slot {above}")

    async def transaction(self, signature: str) -> tuple[int, Transaction] | None:
        """Return its slot, and itself in the form that blocks have. Raises `RailFault` if it cannot be read.

        None where the index names it and no node returns it. The method has no option that excludes the nodes
        that are behind, so it is asked a few times (HAZARDS S15).
        """
        options = {**CONFIRMED, "encoding": "json", "maxSupportedTransactionVersion": wire.VERSION_MAX}
        for _ in range(1 + OTHERS):
            try:
                sent = await self._rpc.read(wire.sent_decoder, "getTransaction", signature, options)
            except NullResult:
                continue
            except RpcRejected as refused:
                if refused.code == UNSUPPORTED_VERSION:
                    raise RailFault(
                        f"transaction {signature} has a version above {wire.VERSION_MAX}, which this version of "
                        f"Railwatch cannot read; upgrade it ({refused})"
                    ) from refused
                raise
            try:
                sent.meta.held_before()
            except ValueError as error:
                raise RailFault(f"transaction {signature} cannot be decoded: {error}") from error
            return sent.slot, _as_in_a_block(sent)
        return None


def _as_in_a_block(sent: Sent) -> Transaction:
    """Its own keys, then those that lookup tables loaded: the order of the balances (HAZARDS S3)."""
    loaded = sent.meta.loaded_addresses
    keys = list(sent.transaction.message.account_keys)
    if loaded is not None:
        keys += [*loaded.writable, *loaded.readonly]
    accounts = Accounts(sent.transaction.signatures, [AccountKey(key) for key in keys])
    return Transaction(accounts, sent.meta, sent.version)
