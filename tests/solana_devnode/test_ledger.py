"""The node rises from its ledger as it was, whatever happened to the process."""

import struct
from pathlib import Path
from typing import Any

import pytest
from solders.keypair import Keypair
from solders.pubkey import Pubkey

from railwatch_solana.dev.devnode.ledger import NAME, Ledger, LedgerError
from railwatch_solana.dev.devnode.node import Settings
from tests.solana_devnode.cluster import CONFIRMED, SOL, Cluster

SETTINGS = Settings(root_lag=3, start_slot=100)


async def picture(cluster: Cluster, *keys: Pubkey) -> dict[str, Any]:
    """Every block, every status, every balance, and the node's slots."""
    rpc, chain = cluster.rpc, cluster.node.chain
    seen: dict[str, Any] = {"state": await rpc("devState"), "slots": await rpc("getBlocks", 0, None, CONFIRMED)}
    everything = CONFIRMED | {"maxSupportedTransactionVersion": 1}
    for slot in chain.between(0, chain.confirmed):
        seen[f"block {slot}"] = (await rpc.post(_call("getBlock", slot, everything))).get("result")
    for key in (*keys, cluster.wallet.key.pubkey()):
        for level in ("processed", "confirmed", "finalized"):
            at = {"commitment": level, "encoding": "base64"}
            seen[f"{key} {level}"] = (await rpc("getAccountInfo", str(key), at))["value"]
        seen[f"{key} history"] = await rpc("getSignaturesForAddress", str(key), CONFIRMED)
    seen["blockhash"] = await rpc("getLatestBlockhash", {"commitment": "processed"})
    return seen


def _call(method: str, *params: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}


async def live(cluster: Cluster) -> tuple[Pubkey, ...]:
    """A bit of everything that a ledger must keep."""
    wallet, to, other = cluster.wallet, Keypair().pubkey(), Keypair().pubkey()
    await cluster.fund()
    mint = await wallet.token(1_000)
    await wallet.send(wallet.opens(to, mint), wallet.pays_token(to, mint, 5))
    await wallet.send(wallet.pays(to, 10**6 * SOL), preflight=False)
    await cluster.produce(2)
    await cluster.rpc("devSkip", 3)
    await wallet.send(wallet.pays(other, SOL), version=0)
    await cluster.produce(3)
    await wallet.send(wallet.pays(other, SOL), version=1)
    await cluster.produce()
    await cluster.rpc("devFork", 2, {"resubmit": True})
    await cluster.rpc("devCommitments", {"confirmLag": 2, "rootLag": 4})
    await cluster.produce(3)
    await cluster.rpc("devWithhold", cluster.node.chain.confirmed, {"code": -32009, "listed": False})
    await cluster.rpc("devPrune", 102)
    await wallet.send(wallet.pays(to, 3 * SOL))
    return to, other, mint


async def test_the_state_after_a_restart_is_the_state_before(tmp_path: Path) -> None:
    with Ledger(tmp_path) as ledger:
        async with Cluster(node=ledger.rise(SETTINGS)) as cluster:
            keys = await live(cluster)
            key, before = cluster.wallet.key, await picture(cluster, *keys)
    with Ledger(tmp_path) as ledger:
        async with Cluster(node=ledger.rise(Settings(seed="of no account"))) as cluster:
            cluster.wallet.key = key
            assert await picture(cluster, *keys) == before
            assert before["state"]["waiting"] == 1
            await cluster.produce()
            assert await cluster.balance(keys[0]) == 3 * SOL, "what waited lands"
            assert (await cluster.rpc("devFork", 1, {"resubmit": False}))["tip"] == before["state"]["processed"]
            assert await cluster.balance(keys[0]) == 0, "and a fork can drop it"


async def test_a_record_cut_off_at_any_byte_is_as_if_it_had_never_been(tmp_path: Path) -> None:
    with Ledger(tmp_path) as ledger:
        async with Cluster(node=ledger.rise(SETTINGS)) as cluster:
            await cluster.produce(2)
            kept = (tmp_path / NAME).stat().st_size
            await cluster.produce()
    whole = (tmp_path / NAME).read_bytes()
    for size in range(kept, len(whole)):
        (tmp_path / NAME).write_bytes(whole[:size])
        with Ledger(tmp_path) as ledger:
            node = ledger.rise(SETTINGS)
            assert node.chain.processed == 102
            node.produce()
        with Ledger(tmp_path) as ledger:
            assert ledger.rise(SETTINGS).chain.processed == 103, "and what comes next is kept"
    (tmp_path / NAME).write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with Ledger(tmp_path) as ledger:
        assert ledger.rise(SETTINGS).chain.processed == 102, "a last record of the wrong content too"


async def test_damage_before_the_end_is_an_error_that_says_where(tmp_path: Path) -> None:
    with Ledger(tmp_path) as ledger:
        node = ledger.rise(SETTINGS)
        node.produce()
        node.produce()
    data = bytearray((tmp_path / NAME).read_bytes())
    (length, _) = struct.unpack_from("<II", data)
    second = 8 + length
    data[second + 10] ^= 1
    (tmp_path / NAME).write_bytes(data)
    with Ledger(tmp_path) as ledger, pytest.raises(LedgerError, match=f"damaged at byte {second}"):
        ledger.rise(SETTINGS)


async def test_a_ledger_that_comes_out_differently_is_refused(tmp_path: Path) -> None:
    with Ledger(tmp_path) as ledger:
        ledger.rise(SETTINGS).produce()
    with Ledger(tmp_path / "other") as ledger:
        ledger.rise(Settings(seed="another", root_lag=3, start_slot=100, time=0))
    ours, theirs = (tmp_path / NAME).read_bytes(), (tmp_path / "other" / NAME).read_bytes()
    (length, _) = struct.unpack_from("<II", ours)
    (tmp_path / "other" / NAME).write_bytes(theirs + ours[8 + length :])
    with Ledger(tmp_path / "other") as ledger, pytest.raises(LedgerError, match="record 2: slot 101 came out as"):
        ledger.rise(SETTINGS)


async def test_two_nodes_never_share_a_ledger(tmp_path: Path) -> None:
    with Ledger(tmp_path), pytest.raises(LedgerError, match="in use"), Ledger(tmp_path):
        pass


async def test_a_refused_command_leaves_no_trace(tmp_path: Path) -> None:
    with Ledger(tmp_path) as ledger:
        async with Cluster(node=ledger.rise(SETTINGS)) as cluster:
            size = (tmp_path / NAME).stat().st_size
            for call in (
                _call("devFork", 5),
                _call("devPrune", 500),
                _call("devSkip", 0),
                _call("devWithhold", 1, {"code": 1}),
            ):
                assert "error" in await cluster.rpc.post(call)
            assert (tmp_path / NAME).stat().st_size == size
