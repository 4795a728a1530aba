"""The way to the node: credentials, a busy node, one that starts, and whatever else is no answer (HAZARDS "Nodes")."""

import asyncio
import re
from collections.abc import Callable
from decimal import Decimal

import pytest

from railwatch.rail import RailUnavailable
from railwatch_bitcoin import create_adapter, mempool
from railwatch_bitcoin.dev.simulator import BitcoinSimulator
from railwatch_bitcoin.options import BitcoinOptions
from railwatch_bitcoin.rpc import CONCURRENCY, Rpc
from railwatch_bitcoin.rpc_errors import RpcRejected
from tests.bitcoin.conftest import Chain
from tests.bitcoin.faulty_proxy import Liar, answer, refuse

pytestmark = pytest.mark.bitcoind


def garbage(body: bytes | None, kind: str = "application/json", status: int = 200) -> Callable[[Liar], None]:
    """Return what makes the node send a whole response that is none."""

    def spoil(liar: Liar) -> None:
        liar.body, liar.kind, liar.status = body, kind, status

    return spoil


GARBAGE: dict[str, tuple[Callable[[Liar], None], str]] = {
    "busy": (garbage(b"Work queue depth exceeded", "text/plain", 503), "HTTP 503, Work queue depth exceeded"),
    "busy, older": (garbage(b"Work queue depth exceeded", "text/html", 500), "HTTP 500"),
    "html": (garbage(b"<html>gateway</html>", "text/html"), "HTTP 200"),
    "bad gateway": (garbage(b"<html>secret</html>", "text/html", 502), "HTTP 502"),
    "unauthorized": (garbage(b"", "text/html", 401), "does not know our credentials"),
    "forbidden": (garbage(b"", "text/html", 403), "rpcallowip"),
    "redirect": (garbage(b"", "text/html", 302), "HTTP 302"),
    "empty": (garbage(b""), "wrong shape"),
    "half": (garbage(b'[{"id":1,"result":'), "wrong shape"),
    "number": (garbage(b"7"), "wrong shape"),
    "fewer": (garbage(b"[]"), "answers are missing|wrong shape"),
    "one for many": (garbage(b'{"id":1,"result":7}'), "wrong shape|was asked for|is on another chain"),
    "refused whole": (
        garbage(b'{"error":{"code":-32600,"message":"no batches"}}'),
        r"no batches \(-32600\)",
    ),
    "hang": (lambda liar: setattr(liar, "hang", True), "no answer within 2 s"),
    "starting": (
        lambda liar: liar.lies.update(
            dict.fromkeys(("getblockhash", "getblock", "getrawmempool"), refuse(-28, "Loading block index…"))
        ),
        "is still starting: Loading block index",
    ),
    "another shape": (
        lambda liar: liar.lies.update(dict.fromkeys(("getblockhash", "getblock", "getrawmempool"), answer({"a": 1}))),
        "wrong shape",
    ),
}


@pytest.mark.parametrize("case", GARBAGE)
async def test_garbage_is_unavailable(
    sim: BitcoinSimulator, liar: Liar, case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Never a crash, never a secret in the message, and over when it is over."""
    monkeypatch.setattr(mempool, "PATIENCE_SECONDS", 60.0)
    table = {**sim.node, "rpc": f"{liar.url}/secret?key=secret", "timeout": 2, "rest": False}
    del table["zmq"]
    async with create_adapter(sim.settings, table) as rail:
        chain = Chain(sim, rail, (await rail.heads()).latest)
        await sim.mine(2)
        span, watches = await chain.span(), chain.watch(await sim.new_address())
        spoil, message = GARBAGE[case]
        spoil(liar)
        # All at once, so that a node that hangs is waited for once.
        asked = (rail.heads(), rail.block_at(1), rail.scan(span, watches), rail.pending(watches))
        for error in await asyncio.gather(*asked, return_exceptions=True):
            assert isinstance(error, RailUnavailable)
            assert re.search(message, str(error))
            assert "secret" not in str(error)
        liar.heal()
        assert (await rail.heads()).latest == span.upto


async def test_an_unreachable_node_is_unavailable(sim: BitcoinSimulator) -> None:
    async with Liar(sim.fleet.nodes[0].url) as liar:
        pass
    with pytest.raises(RailUnavailable, match="ClientConnector"):
        await create_adapter(sim.settings, {"rpc": liar.url}).__aenter__()


async def test_user_and_password_open_a_node_and_nothing_else_does() -> None:
    async with BitcoinSimulator(password="right") as sim:
        async with sim.open_adapter() as rail:
            await rail.heads()
        for wrong in ({"user": "railwatch", "password": "wrong"}, {}):
            with pytest.raises(RailUnavailable, match="HTTP 401, it does not know our credentials") as error:
                await create_adapter(sim.settings, {"rpc": sim.node["rpc"], **wrong}).__aenter__()
            assert "wrong" not in str(error.value)


async def test_a_cookie_is_read_again_when_the_node_was_started_again(sim: BitcoinSimulator) -> None:
    """A new start is a new cookie; a client with the old one reads the new one."""
    async with sim.open_adapter() as rail:
        before = (await rail.heads()).latest
        await sim.fleet.stop()
        with pytest.raises(RailUnavailable):
            await rail.heads()
        await sim.fleet.start()
        assert (await rail.heads()).latest == before


async def test_numbers_are_exact_and_named_methods_work(sim: BitcoinSimulator) -> None:
    """B13: what bitcoinrpc's own methods answer holds no float; an error is typed, and has its code."""
    rpc = Rpc(BitcoinOptions.from_table(sim.node))
    await rpc.open()
    try:
        assert await rpc.getblockcount() == await sim.height()
        block = await rpc.getblock(await rpc.getbestblockhash(), 2)
        values = [out["value"] for tx in block["tx"] for out in tx["vout"]]  # type: ignore[index]  # typed as the RPC's plain JSON
        assert values
        assert {type(value) for value in values} == {Decimal}
        with pytest.raises(RpcRejected, match="Block height out of range") as refused:
            await rpc.getblockhash(10**6)
        assert refused.value.code == -8
    finally:
        await rpc.aclose()


async def test_a_call_after_the_end_is_unavailable(sim: BitcoinSimulator) -> None:
    rpc = Rpc(BitcoinOptions.from_table(sim.node))
    await rpc.open()
    await rpc.aclose()
    await rpc.aclose()
    with pytest.raises(RailUnavailable, match="enter the adapter first"):
        await rpc.getblockcount()


async def test_a_node_is_never_asked_more_at_once_than_it_can_hold(lied_to: Chain, liar: Liar) -> None:
    """Core answers with as few as four threads, and refuses what its queue cannot hold."""
    await lied_to.sim.mine(20)
    address = await lied_to.sim.new_address()
    span, watches = await lied_to.span(), lied_to.watch(address)
    calls = [(lied_to.rail.heads(), lied_to.rail.scan(span, watches), lied_to.rail.pending(watches)) for _ in range(8)]
    await asyncio.gather(*[call for some in calls for call in some])
    assert liar.most == CONCURRENCY


async def test_rest_is_used_where_it_is_served_and_refused_by_name_where_it_is_demanded() -> None:
    async with BitcoinSimulator(lines=("rest=0",)) as sim:
        table = {key: value for key, value in sim.node.items() if key not in ("rest", "zmq")}
        with pytest.raises(RailUnavailable, match="rest is true, and the node does not serve it"):
            await create_adapter(sim.settings, {**table, "rest": True}).__aenter__()
        async with create_adapter(sim.settings, table) as rail:
            chain = Chain(sim, rail, (await rail.heads()).latest)
            address = await sim.new_address()
            await sim.pay(address, 1_000_007)
            await sim.mine()
            assert len(await chain.found(address)) == 1
