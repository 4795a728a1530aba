"""Subscriptions: what is sent, when, and to whom."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
from solders.keypair import Keypair
from spl.token.constants import TOKEN_PROGRAM_ID
from spl.token.instructions import get_associated_token_address
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from tests.solana_devnode.cluster import CONFIRMED, PROCESSED, SOL, Cluster

HEAR_SECONDS = 20


class Ear:
    """A websocket that subscribes and listens."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._heard: list[dict[str, Any]] = []

    async def _next(self) -> dict[str, Any]:
        async with asyncio.timeout(HEAR_SECONDS):
            message: dict[str, Any] = msgspec.json.decode(await self._socket.recv())
        return message

    async def ask(self, method: str, *params: Any) -> dict[str, Any]:
        """The whole answer; what is heard before it waits."""
        await self._socket.send(
            msgspec.json.encode({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).decode()
        )
        while "id" not in (message := await self._next()):
            self._heard.append(message)
        return message

    async def subscribe(self, kind: str, *params: Any) -> int:
        number: int = (await self.ask(f"{kind}Subscribe", *params))["result"]
        return number

    async def hear(self) -> tuple[int, Any]:
        """The next notification: under which number, and what."""
        message = self._heard.pop(0) if self._heard else await self._next()
        return message["params"]["subscription"], message["params"]["result"]

    async def silent(self) -> bool:
        """Return True if nothing was sent before now: an answer comes after all that was."""
        await self.ask("slotUnsubscribe", 0)
        return not self._heard


@asynccontextmanager
async def listening(cluster: Cluster) -> AsyncIterator[Ear]:
    async with connect(cluster.ws, max_size=None) as socket:
        yield Ear(socket)


@pytest.fixture
async def ear(cluster: Cluster) -> AsyncIterator[Ear]:
    async with listening(cluster) as ear:
        yield ear


async def test_slots_and_roots_are_sent_as_they_come(cluster: Cluster, ear: Ear) -> None:
    slots, roots = await ear.subscribe("slot"), await ear.subscribe("root")
    await cluster.produce(4)
    notices = [await ear.hear() for _ in range(5)]
    assert [result for number, result in notices if number == slots] == [
        {"slot": slot, "parent": slot - 1, "root": max(slot - 5, 0)} for slot in (2, 3, 4, 5)
    ]
    assert [result for number, result in notices if number == roots] == [1]


async def test_a_fork_shows_by_the_parent_of_the_next_slot(cluster: Cluster, ear: Ear) -> None:
    await cluster.produce(2)
    await ear.subscribe("slot")
    await cluster.rpc("devFork", 2)
    await cluster.produce()
    assert await ear.hear() == (1, {"slot": 4, "parent": 1, "root": 0})


async def test_a_signature_is_sent_once_at_its_commitment_and_at_once_if_it_is_there(
    cluster: Cluster, ear: Ear
) -> None:
    signature = await cluster.wallet.send(cluster.wallet.pays(Keypair().pubkey(), SOL))
    number = await ear.subscribe("signature", signature, CONFIRMED)
    slot = (await cluster.produce())[0]
    assert await ear.silent()
    await cluster.produce(3)
    heard = await ear.hear()
    assert (heard[0], heard[1]["context"]["slot"], heard[1]["value"]) == (number, slot, {"err": None})
    assert (await ear.ask("signatureUnsubscribe", number))["error"]["code"] == -32602, "sent once, and over"
    again = await ear.subscribe("signature", signature, CONFIRMED)
    assert (await ear.hear())[0] == again


async def test_an_account_and_its_program_are_sent_with_what_they_hold(cluster: Cluster, ear: Ear) -> None:
    wallet, owner = cluster.wallet, Keypair().pubkey()
    mint = await wallet.token(100)
    home = get_associated_token_address(owner, mint)
    account = await ear.subscribe("account", str(home), PROCESSED | {"encoding": "jsonParsed"})
    program = await ear.subscribe("program", str(TOKEN_PROGRAM_ID), PROCESSED | {"encoding": "jsonParsed"})
    late = await ear.subscribe("account", str(home), {"encoding": "jsonParsed"})
    await wallet.send(wallet.opens(owner, mint), wallet.pays_token(owner, mint, 40))
    slot = (await cluster.produce())[0]
    notices = [await ear.hear() for _ in range(3)]
    (at_account,) = [result for number, result in notices if number == account]
    assert at_account["context"]["slot"] == slot
    assert at_account["value"]["data"]["parsed"]["info"]["tokenAmount"]["amount"] == "40"
    keys = {result["value"]["pubkey"] for number, result in notices if number == program}
    assert keys == {str(home), str(get_associated_token_address(wallet.key.pubkey(), mint))}
    assert await ear.silent(), "finalized is the default, and it is not yet"
    await wallet.send(wallet.pays_token(owner, mint, 2))
    await cluster.produce(4)
    while (heard := await ear.hear())[0] != late:
        pass
    assert heard[1]["context"]["slot"] == slot
    assert heard[1]["value"]["data"]["parsed"]["info"]["tokenAmount"]["amount"] == "40", "as of its own slot"


async def test_logs_are_sent_of_all_or_of_one_key(cluster: Cluster, ear: Ear) -> None:
    to, other = Keypair().pubkey(), Keypair().pubkey()
    await ear.subscribe("logs", "all", PROCESSED)
    one = await ear.subscribe("logs", {"mentions": [str(to)]}, PROCESSED)
    first = await cluster.wallet.send(cluster.wallet.pays(other, SOL))
    second = await cluster.wallet.send(cluster.wallet.pays(to, 10**6 * SOL), preflight=False)
    await cluster.produce()
    notices = [await ear.hear() for _ in range(3)]
    assert [result["value"]["signature"] for number, result in notices if number != one] == [first, second]
    (mine,) = [result["value"] for number, result in notices if number == one]
    assert (mine["signature"], mine["err"]) == (second, {"InstructionError": [0, {"Custom": 1}]})


async def test_blocks_are_sent_whole_or_with_what_mentions_a_key(cluster: Cluster, ear: Ear) -> None:
    to = Keypair().pubkey()
    known = CONFIRMED | {"maxSupportedTransactionVersion": 1, "transactionDetails": "signatures"}
    whole = await ear.subscribe("block", "all", known)
    part = await ear.subscribe("block", {"mentionsAccountOrProgram": str(to)}, known)
    old = await ear.subscribe("block", "all", CONFIRMED)
    signatures = [
        await cluster.wallet.send(cluster.wallet.pays(Keypair().pubkey(), SOL), version=0),
        await cluster.wallet.send(cluster.wallet.pays(to, SOL)),
    ]
    slot = (await cluster.produce(2))[0]
    notices: dict[int, Any] = {}
    while len(notices) < 3:
        number, result = await ear.hear()
        if result["value"]["slot"] == slot:
            notices[number] = result["value"]
    assert notices[whole]["block"]["signatures"] == signatures
    assert notices[part]["block"]["signatures"] == signatures[1:]
    assert (notices[old]["block"], notices[old]["err"]) == (None, "UnsupportedTransactionVersion")


async def test_an_unsubscribed_number_hears_nothing_more(cluster: Cluster, ear: Ear) -> None:
    number = await ear.subscribe("slot")
    assert (await ear.ask("slotUnsubscribe", number))["result"] is True
    assert (await ear.ask("slotUnsubscribe", number))["error"]["code"] == -32602
    await cluster.produce()
    assert await ear.silent()


async def test_a_reader_that_does_not_read_is_cut_off_and_delays_no_other() -> None:
    async with Cluster(behind_max=100_000) as cluster, listening(cluster) as ear, connect(cluster.ws) as deaf:
        for _ in range(100):
            await deaf.send('{"jsonrpc":"2.0","id":1,"method":"slotSubscribe"}')
            await deaf.recv()
        await ear.subscribe("slot")
        for slot in await cluster.produce(100):
            assert (await ear.hear())[1]["slot"] == slot
        with pytest.raises(ConnectionClosed):
            await forever(deaf)


async def forever(socket: ClientConnection) -> None:
    async with asyncio.timeout(HEAR_SECONDS):
        while True:
            await socket.recv()


async def test_a_bad_request_is_answered_and_the_connection_lives(cluster: Cluster) -> None:
    async with connect(cluster.ws) as socket:
        for text, code in (
            ("{", -32700),
            ("[]", -32600),
            ('{"id":1,"method":"slotSubscribe","params":"x"}', -32602),
            ('{"id":1,"method":"getSlot"}', -32601),
            ('{"id":1,"method":"accountSubscribe","params":["?"]}', -32602),
            ('{"id":1,"method":"logsSubscribe","params":[{"mentions":[]}]}', -32602),
            ('{"id":1,"method":"blockSubscribe","params":["all",{"commitment":"processed"}]}', -32602),
        ):
            await socket.send(text)
            assert msgspec.json.decode(await socket.recv())["error"]["code"] == code
        await socket.send('{"id":1,"method":"slotSubscribe"}')
        assert msgspec.json.decode(await socket.recv())["result"] == 1


async def test_the_clock_produces_until_it_is_paused() -> None:
    async with Cluster(slot_ms=1) as cluster, listening(cluster) as ear:
        await ear.subscribe("slot")
        await ear.hear()
        assert await cluster.rpc("devPause") is True
        state = await cluster.rpc("devState")
        assert state["paused"]
        slot = state["processed"]
        for _ in range(200):
            assert await cluster.rpc("getSlot", PROCESSED) == slot
        assert (await cluster.produce())[0] == slot + 1, "by hand it goes on"
        assert await cluster.rpc("devResume") is False
        while (await ear.hear())[1]["slot"] < slot + 3:
            pass
