"""What a node serves, asked once on entering: a refusal in whatever words is a missing ability, with a fall-back.

Clients and gateways differ in more than their versions (HAZARDS B20): Dogecoin Core 1.14 has no filters and no
`getzmqnotifications`, a whitelist answers 403, a gateway 405. Each method is called once, with arguments that cost
nothing and change nothing. What is needed and refused becomes one sentence that names the method.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from railwatch.rail import RailUnavailable
from railwatch.rail.refusals import LOCKED_OUT
from railwatch.rail.served import Served
from railwatch_bitcoin.chains import Chain
from railwatch_bitcoin.methods import METHODS
from railwatch_bitcoin.rpc import Rpc
from railwatch_bitcoin.rpc_errors import NOT_FOUND, RpcRejected

NO_SUCH_TX = "0" * 63 + "1"
"""An id that no transaction and no block has: who serves the method says that it does not know it."""
UNDERSTOOD = (NOT_FOUND, -1, -3, -8, -32602)
"""Codes of Core's `rpc/protocol.h` that only a node which serves the method gives: not found, in use, bad arguments."""


@dataclass(frozen=True, slots=True)
class Abilities:
    """``raw``: how `getblock` is asked for bytes, by number or (Core 0.14 and its heirs) by truth value.

    ``bodies``: waiting transactions can be read, without which no unconfirmed payment is seen. ``mempool_info``: the
    node says whether its mempool is loaded.
    """

    raw: int | bool = 0
    filters: bool = False
    bodies: bool = True
    mempool_info: bool = True
    rest: bool = False

    @property
    def listed(self) -> int | bool:
        """How `getblock` is asked for a block's size and ids, in the same way as for its bytes."""
        return True if self.raw is False else 1


@dataclass(slots=True)
class Asked:
    """Asks one node for each method, once."""

    rpc: Rpc
    served: Served = field(default_factory=lambda: Served(METHODS))

    async def serves(self, method: str, *params: object, understood: tuple[int, ...] = (NOT_FOUND,)) -> bool:
        """Ask once. ``understood``: codes of a refusal that only who serves the method gives.

        Raises what passes, for then it is not known.
        """
        if method not in self.served.said:
            refusal = (await self.rpc.call(method, *params)).error
            if refusal is not None and refusal.passes and not self._is_its_own(refusal):
                raise refusal
            self.note(method, None if refusal is None or refusal.code in understood else refusal)
        return self.served.serves(method)

    async def might_serve(self, method: str, *params: object) -> bool:
        """Do as `serves` for what the rail can do without; what passes leaves it open, and counts as served."""
        try:
            return await self.serves(method, *params, understood=UNDERSTOOD)
        except RailUnavailable as passing:
            self.served.note(method, None, str(passing))
            return True

    async def surely_serves(self, method: str, *params: object) -> bool:
        """Do as `serves` where nothing is lost without it: what passes is a no until the node is entered again."""
        try:
            return await self.serves(method, *params)
        except RpcRejected as passing:
            self.served.note(method, None, str(passing))
            return False

    def _is_its_own(self, refusal: RpcRejected) -> bool:
        """Return True if the refusal is about this method alone (HAZARDS B20).

        So it is with a status that locks us out, from an endpoint that has answered other methods.
        """
        return refusal.code in LOCKED_OUT and any(served for served, _ in self.served.said.values())

    def note(self, method: str, refusal: RpcRejected | None) -> None:
        """Keep what the node said."""
        self.served.note(method, refusal is None, "" if refusal is None else str(refusal))


async def find_abilities(asked: Asked, chain: Chain, rest: bool | None, mempool: bool, zmq: bool) -> Abilities:
    """Ask the node. ``rest``, ``mempool`` and ``zmq`` are the configuration's wishes.

    Raises `MethodsMissing` for what is needed and not served, and `RailUnavailable` for whatever passes.
    """
    genesis = chain.landmarks[0][1]
    await asked.serves("getblockheader", genesis, False)
    # With an argument that no client accepts: the list of what waits may itself have megabytes.
    lists = mempool and await asked.might_serve("getrawmempool", {})
    abilities = Abilities(
        raw=await _how_raw(asked, genesis),
        filters=await asked.surely_serves("getblockfilter", genesis),
        bodies=mempool and await asked.serves("getrawtransaction", NO_SUCH_TX) and lists,
        mempool_info=mempool and await asked.serves("getmempoolinfo"),
    )
    if zmq:
        await asked.might_serve("getzmqnotifications")
        await asked.might_serve("getbestblockhash")
    else:
        await asked.might_serve("waitfornewblock", 1)
    await asked.might_serve("getpeerinfo")
    await asked.might_serve("getblockfrompeer", NO_SUCH_TX, 0)
    asked.served.require(asked.rpc.name)
    served = rest is not False and await _serves_rest(asked.rpc, wanted=rest is True)
    return Abilities(abilities.raw, abilities.filters, abilities.bodies, abilities.mempool_info, served)


async def _how_raw(asked: Asked, genesis: str) -> int | bool:
    """How a block's bytes are asked for. A pruned block is a refusal of the block, not of the question."""
    rpc = asked.rpc
    number = (await rpc.call("getblock", genesis, 0)).error
    if number is None or number.lacks_content:
        asked.note("getblock", None)
        return 0
    if number.passes:
        raise number
    truth = (await rpc.call("getblock", genesis, False)).error
    asked.note("getblock", None if truth is None or truth.lacks_content else truth)
    return False


async def _serves_rest(rpc: Rpc, *, wanted: bool) -> bool:
    served = await _quietly(lambda: rpc.rest("chaininfo.json")) is not None
    if wanted and not served:
        raise RailUnavailable(f"{rpc.name}: rest is true, and the node does not serve it (its own setting rest=1)")
    return served


async def _quietly(ask: Callable[[], Awaitable[bytes | None]]) -> bytes | None:
    """RPC has just answered: whatever is wrong with REST alone, there is a way without it."""
    try:
        return await ask()
    except RailUnavailable:
        return None
