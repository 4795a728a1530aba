"""What a node serves: each method is asked once, on entering, with arguments that cost little and change nothing.

A refusal in any words or status is a missing ability with a fall-back, or, where the rail cannot do without, one
sentence that names method and setting. What passes leaves it open, and it is asked again when it is needed.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from railwatch.rail import Ability, RailUnavailable
from railwatch.rail.refusals import LOCKED_OUT
from railwatch.rail.served import Served
from railwatch_solana.address import text_of
from railwatch_solana.methods import METHODS
from railwatch_solana.rpc import Rpc
from railwatch_solana.rpc_errors import BLOCK_CLEANED_UP, MISSING, MalformedResponse, NullResult, RpcRejected
from railwatch_solana.wire import RpcEnvelope

CONFIRMED = {"commitment": "confirmed"}
UNUSED_ADDRESS = text_of(b"nobody has the key of this .....")
"""An address that never held anything: requests about it are answered with nothing."""
NO_SIGNATURE = "1" * 64
"""In base58 the signature of 64 zeros, which no transaction has."""
TOKENS = "TokenkegQfeZyiNwAJbNbGKPFXCWuBvf9Ss623VQ5DA"
BARE = {**CONFIRMED, "transactionDetails": "none", "rewards": False, "maxSupportedTransactionVersion": 1}
INDEX = ("getTokenAccountsByOwner", "getSignaturesForAddress", "getTransaction")

NEEDED = frozenset(method.name for method in METHODS if not method.fallback)
UNANSWERED_MOST = 3
"""Questions that may come back with nothing before the others are left for when they are needed: each may need the
node's whole timeout."""

_any: "msgspec.json.Decoder[RpcEnvelope[Any]]" = msgspec.json.Decoder(RpcEnvelope[Any])


@dataclass(slots=True)
class Abilities:
    """What one node serves."""

    rpc: Rpc
    served: Served = field(default_factory=lambda: Served(METHODS))

    async def learn(self, *, index: bool) -> None:
        """Ask for everything; for the ``index`` only if look-backs may use it.

        Raises `MethodsMissing` for what is needed and refused, `RailUnavailable` if the node is down.
        """
        self.served.said.clear()
        unanswered = 0
        slot = await self._ask("getSlot", CONFIRMED)
        at = slot if isinstance(slot, int) else 0
        probes: list[tuple[str, Sequence[Any]]] = [
            ("getGenesisHash", ()),
            ("getLatestBlockhash", (CONFIRMED,)),
            ("getBlock", (at, BARE)),
            ("getBlocks", (at, at, CONFIRMED)),
            ("getBlocksWithLimit", (at, 1, CONFIRMED)),
            ("getHealth", ()),
            ("getFirstAvailableBlock", ()),
            ("getTokenAccountsByOwner", (UNUSED_ADDRESS, {"programId": TOKENS}, _data())),
            ("getSignaturesForAddress", (UNUSED_ADDRESS, {**CONFIRMED, "limit": 1})),
            ("getTransaction", (NO_SIGNATURE, {**CONFIRMED, "encoding": "json", "maxSupportedTransactionVersion": 1})),
            ("getMultipleAccounts", ([UNUSED_ADDRESS], _data())),
            ("getAccountInfo", (UNUSED_ADDRESS, _data())),
            ("getMinimumBalanceForRentExemption", (0,)),
        ]
        for method, params in probes:
            if method in INDEX and not index:
                self.served.note(method, None, "not asked: the option index is false")
            elif unanswered >= UNANSWERED_MOST:
                self.served.note(method, None, f"not asked: {unanswered} other questions were not answered")
            else:
                unanswered += not await self._is_answered(method, params)
        self.served.require(self.rpc.name)

    async def _is_answered(self, method: str, params: Sequence[Any]) -> bool:
        """Put one question. Raises `RailUnavailable` if nothing comes back of what the rail cannot do without."""
        try:
            await self._ask(method, *params)
        except RailUnavailable as away:
            if method in NEEDED:
                raise
            self.served.note(method, None, str(away))
            return False
        return True

    def serves(self, method: str) -> bool:
        """Return whether the method may be asked."""
        return self.served.serves(method)

    def table(self, *, pushed: bool) -> list[Ability]:
        """One row for each method of the whitelist. ``pushed``: ``ws`` is configured."""
        return self.served.table("asked when the websocket is opened" if pushed else "no ws is configured")

    async def _ask(self, method: str, *params: Any) -> Any:
        """Put one question, and keep what it says of the method; returns the result if there is one."""
        result = None
        try:
            result = await self.rpc.read(_any, method, *params)
        except NullResult:
            self.served.note(method, True)
        except RpcRejected as refused:
            self._note(method, refused)
        except MalformedResponse as other:
            # Not even JSON: a page of a gateway, in place of the method.
            self.served.note(method, False, str(other))
        else:
            self.served.note(method, True)
        return result

    def _note(self, method: str, refused: RpcRejected) -> None:
        """Keep what a refusal says of the method. Raises it where it says nothing of any method: we are locked out."""
        if refused.code in (*MISSING, BLOCK_CLEANED_UP):
            # A slot without a block, and one that was pruned, are answers: so is a node that calls itself unwell.
            self.served.note(method, True)
        elif refused.code in LOCKED_OUT:
            if not any(served for served, _ in self.served.said.values()):
                raise refused
            self.served.note(method, False, str(refused))
        else:
            self.served.note(method, None if refused.passes else False, str(refused))


def _data() -> dict[str, Any]:
    return {**CONFIRMED, "encoding": "base64", "dataSlice": {"offset": 0, "length": 0}}
