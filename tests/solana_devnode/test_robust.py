"""Whatever a client sends, it gets an answer, and the node goes on."""

import base64
import random
from typing import Any

import pytest
from solders.hash import Hash
from solders.instruction import CompiledInstruction
from solders.keypair import Keypair
from solders.message import Message
from solders.rpc.responses import GetBlockResp
from solders.transaction import VersionedTransaction

from railwatch_solana.dev.devnode.guard import Panicked, contained
from tests.solana_devnode.cluster import SOL, Cluster, encoded

ODD: list[Any] = [
    None, True, -1, 0, 1 << 63, (1 << 64) - 1, 1 << 64, 1 << 200, 1.5, "", "x", "1" * 32, "1" * 5000, "é", [], [[]], {},
    {"commitment": "x"}, {"commitment": None, "encoding": None}, {"encoding": "base64+zstd"}, {"minContextSlot": -1},
    {"dataSlice": {"offset": -1, "length": 1 << 70}}, {"filters": [{"memcmp": {"offset": -5, "bytes": "0"}}]},
    {"limit": -1}, {"before": 5}, {"mint": "x"}, {"programId": "1" * 32}, {"accounts": {"addresses": ["?"]}},
]  # fmt: skip


async def alive(cluster: Cluster) -> None:
    assert await cluster.rpc("getHealth") == "ok"


async def test_every_method_answers_every_odd_parameter(cluster: Cluster) -> None:
    methods = cluster.methods()
    assert len(methods) > 40
    chance = random.Random(4)
    calls = []
    for method in methods:
        if method in ("devPause", "devProduce", "devSkip"):
            continue
        calls += [(method, [odd]) for odd in ODD]
        calls += [(method, chance.choices(ODD, k=3)) for _ in range(40)]
        calls.append((method, [cluster.wallet.address, *chance.choices(ODD, k=2)]))
    for start in range(0, len(calls), 1000):
        batch = [
            {"jsonrpc": "2.0", "id": number, "method": method, "params": params}
            for number, (method, params) in enumerate(calls[start : start + 1000])
        ]
        for call, reply in zip(batch, await cluster.rpc.post(batch), strict=True):
            code = reply.get("error", {}).get("code")
            assert code != -32603, (call, reply)
    await alive(cluster)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", -32700),
        (b"{", -32700),
        (b"[" * 100_000, -32700),
        (b"\xff\xfe", -32700),
        (b"null", -32600),
        (b"5", -32600),
        (b"[]", -32600),
        (b"{}", -32600),
        (b'{"method": 5, "id": 1}', -32600),
        (b'{"method": "noSuch", "id": 1}', -32601),
        (b'{"method": "__init__", "id": 1}', -32601),
        (b'{"method": "getBlock", "id": 1, "params": {"slot": 1}}', -32602),
        (b'{"method": "getBlock", "id": 1}', -32602),
    ],
)
async def test_a_body_that_is_no_request_is_an_error(cluster: Cluster, body: bytes, code: int) -> None:
    assert (await cluster.rpc.post(body))["error"]["code"] == code
    await alive(cluster)


async def test_a_batch_answers_each_request_in_order(cluster: Cluster) -> None:
    replies = await cluster.rpc.post([{"id": "a", "method": "getHealth"}, 5, {"id": None, "method": "getSlot"}])
    assert [reply["id"] for reply in replies] == ["a", None, None]
    assert ["result" in reply for reply in replies] == [True, False, True]


async def test_bytes_that_are_no_transaction_are_refused(cluster: Cluster) -> None:
    good = bytes(await cluster.wallet.signed(cluster.wallet.pays(Keypair().pubkey(), SOL)))
    newer = bytes(await cluster.wallet.signed(cluster.wallet.pays(Keypair().pubkey(), SOL), version=0))
    newest = bytes(await cluster.wallet.signed(cluster.wallet.pays(Keypair().pubkey(), SOL), version=1))
    chance = random.Random(4)
    calls = []
    for number in range(3_000):
        raw = bytearray(chance.choice((good, newer, newest)))
        for _ in range(chance.randint(1, 4)):
            raw[chance.randrange(len(raw))] = chance.randrange(256)
        raw = raw[: chance.randint(0, len(raw))] if number % 3 == 0 else raw
        config = {"encoding": "base64", "skipPreflight": number % 2 == 0, "preflightCommitment": "processed"}
        params = [base64.b64encode(raw).decode(), config]
        method = "sendTransaction" if number % 5 else "simulateTransaction"
        calls.append({"id": number, "method": method, "params": params})
    for start in range(0, len(calls), 1000):
        for reply in await cluster.rpc.post(calls[start : start + 1000]):
            assert reply.get("error", {}).get("code") != -32603, reply
    await cluster.produce()
    await alive(cluster)


def test_a_panic_in_the_library_becomes_an_error() -> None:
    with pytest.raises(Panicked, match="missing field"), contained():
        GetBlockResp.from_json('{"jsonrpc": "2.0", "error": {"code": -32002, "message": "without data"}, "id": 0}')


async def test_a_message_with_indexes_beyond_its_keys_is_refused(cluster: Cluster) -> None:
    payer, to = cluster.wallet.key, Keypair().pubkey()
    for program, accounts in ((9, b"\0"), (1, b"\x09"), (0, b"\0")):
        step = CompiledInstruction(program, b"", accounts)
        message = Message.new_with_compiled_instructions(1, 0, 1, [payer.pubkey(), to], Hash.default(), [step])
        tx = VersionedTransaction.populate(message, [payer.sign_message(bytes(message))])
        reply = await cluster.rpc.post(
            {"id": 1, "method": "sendTransaction", "params": [encoded(tx), {"encoding": "base64"}]}
        )
        assert reply["error"]["code"] == -32602
    await alive(cluster)
