"""What a node serves, asked once on entering: a refusal in whatever words is a missing ability, with a fall-back.

Clients and gateways differ in more than versions tell (HAZARDS B20): Dogecoin Core 1.14 has no filters and no
`getzmqnotifications`, a whitelist answers 403, a gateway 405. Each method is called once, with arguments that cost
nothing and change nothing. What is needed and refused is told in one sentence that names the method.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from adapters.bitcoin.params import Chain
from adapters.bitcoin.rpc import NOT_FOUND, NodeRefused, Rpc
from indexer.rail import RailUnavailable

NO_SUCH_TX = "0" * 63 + "1"
"""An id that no transaction has: who serves the method says that it does not know it."""


@dataclass(frozen=True, slots=True)
class Abilities:
    """``raw``: how `getblock` is asked for bytes, by number or (Core 0.14 and its heirs) by truth value.

    ``bodies``: waiting transactions can be read, without which nothing that waits can be told. ``mempool_info``: the
    node says whether its mempool is loaded.
    """

    raw: int | bool = 0
    filters: bool = False
    bodies: bool = True
    mempool_info: bool = True
    rest: bool = False


async def find_abilities(rpc: Rpc, chain: Chain, rest: bool | None, mempool: bool) -> Abilities:
    """Ask the node. ``rest`` and ``mempool`` are the configuration's wishes.

    Raises `RailUnavailable` for what is needed and not served, and for whatever passes.
    """
    genesis = chain.landmarks[0][1]
    await _need(rpc, "getblockheader", genesis, False)
    return Abilities(
        raw=await _how_raw(rpc, genesis),
        filters=await _serves(rpc, "getblockfilter", genesis),
        bodies=mempool and await _serves(rpc, "getrawtransaction", NO_SUCH_TX),
        mempool_info=mempool and await _serves(rpc, "getmempoolinfo"),
        rest=rest is not False and await _serves_rest(rpc, wanted=rest is True),
    )


async def _how_raw(rpc: Rpc, genesis: str) -> int | bool:
    """How a block's bytes are asked for. A pruned block is a refusal of the block, not of the question."""
    number = (await rpc.call("getblock", genesis, 0)).refusal
    if number is None or "prune" in number.message.lower():
        return 0
    if number.passes:
        raise number
    truth = (await rpc.call("getblock", genesis, False)).refusal
    if truth is None or "prune" in truth.message.lower():
        return False
    raise _missing(rpc, "getblock", truth)


async def _need(rpc: Rpc, method: str, *params: object) -> None:
    refusal = (await rpc.call(method, *params)).refusal
    if refusal is not None:
        raise refusal if refusal.passes else _missing(rpc, method, refusal)


async def _serves(rpc: Rpc, method: str, *params: object) -> bool:
    """Whether the method is served; raises what passes, for then nobody knows."""
    refusal = (await rpc.call(method, *params)).refusal
    if refusal is not None and refusal.passes:
        raise refusal
    return refusal is None or refusal.code == NOT_FOUND


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


def _missing(rpc: Rpc, method: str, refusal: NodeRefused) -> RailUnavailable:
    return RailUnavailable(
        f"{rpc.name} does not serve {method}, which the rail needs: allow it (rpcwhitelist, or the plan of a hosted "
        f"node), or give the rail another node ({refusal})"
    )
