"""The development chains do what a story says, and nothing else: by the nodes' own answers, without any adapter."""

import asyncio
import os
from collections.abc import AsyncIterator

import pytest

from railwatch_bitcoin.dev.node_process import DaemonNode, NodeError, NodeMissing, find_node
from railwatch_bitcoin.dev.node_rpc import DevNodeRpc
from railwatch_bitcoin.dev.simulator import COIN, BitcoinSimulator
from railwatch_bitcoin.dev.wallet import KINDS

AMOUNT = 1_000_007
BOTH = [
    pytest.param("bitcoind", marks=pytest.mark.bitcoind),
    pytest.param("litecoind", marks=pytest.mark.litecoind),
]


@pytest.fixture(params=BOTH)
async def sim(request: pytest.FixtureRequest) -> AsyncIterator[BitcoinSimulator]:
    """Yield a chain of each coin."""
    async with BitcoinSimulator(request.param) as sim:
        yield sim


@pytest.fixture
async def two() -> AsyncIterator[BitcoinSimulator]:
    """Two nodes of one chain."""
    async with BitcoinSimulator(nodes=2) as sim:
        yield sim


async def depth(sim: BitcoinSimulator, tx_id: str, at: int = 0) -> int | None:
    """Return a transaction's confirmations: 0 while it waits, None if it neither waits nor is in the chain."""
    if tx_id in await sim.fleet.waiting(at):
        return 0
    hashes = await sim.fleet.batch([("getblockhash", (height,)) for height in range(await sim.height(at) + 1)], at)
    blocks = await sim.fleet.batch([("getblock", (each,)) for each in hashes], at)
    return next((block["confirmations"] for block in blocks if tx_id in block["tx"]), None)


async def paid(sim: BitcoinSimulator, tx_id: str, address: str) -> list[int]:
    """Amounts that a transaction pays to an address, as the node reports it."""
    script = (await sim.rpc("validateaddress", address))["scriptPubKey"]
    outputs = (await sim.rpc("getrawtransaction", tx_id, True))["vout"]
    return [int(out["value"] * COIN) for out in outputs if out["scriptPubKey"]["hex"] == script]


async def test_nothing_happens_by_itself(sim: BitcoinSimulator) -> None:
    height, address = await sim.height(), await sim.new_address()
    tx_id = await sim.pay(address, AMOUNT)
    assert (await sim.height(), await depth(sim, tx_id)) == (height, 0)
    await sim.mine(3)
    assert (await sim.height(), await depth(sim, tx_id)) == (height + 3, 3)
    assert await paid(sim, tx_id, address) == [AMOUNT]


async def test_every_kind_of_address_can_be_paid(sim: BitcoinSimulator) -> None:
    addresses = [await sim.new_address(kind) for kind in KINDS]
    tx_id = await sim.pay_many([(address, AMOUNT + place) for place, address in enumerate(addresses)])
    assert [await paid(sim, tx_id, address) for address in addresses] == [[AMOUNT + place] for place in range(5)]


async def test_an_amount_beyond_one_coin_spends_several(sim: BitcoinSimulator) -> None:
    address = await sim.new_address()
    assert await paid(sim, await sim.pay(address, 7 * COIN + 1), address) == [7 * COIN + 1]


async def test_change_is_spent_once_the_coins_are_gone(sim: BitcoinSimulator) -> None:
    address = await sim.new_address()
    while len(sim.purse.coins) > 1:
        sim.purse.coins.pop()
    await sim.pay(address, AMOUNT)
    with pytest.raises(NodeError, match="mine one"):
        await sim.pay(address, AMOUNT)
    await sim.mine()
    assert await depth(sim, await sim.pay(address, AMOUNT)) == 0


@pytest.mark.parametrize("keep", [True, False])
async def test_a_reorg_replaces_blocks_and_leaves_what_waits(sim: BitcoinSimulator, keep: bool) -> None:
    """Depth blocks go and one more come, of which the first holds what the old ones held, or none does."""
    held = []
    for _ in range(2):
        held.append(await sim.pay(await sim.new_address(), AMOUNT))
        await sim.mine()
    waiting, height, head = await sim.pay(await sim.new_address(), AMOUNT), await sim.height(), await sim.head()
    await sim.reorg(2, keep=keep)
    assert await sim.height() == height + 1
    assert (await sim.rpc("getblockheader", head))["confirmations"] == -1
    assert [await depth(sim, each) for each in (*held, waiting)] == ([3, 3, 0] if keep else [None, None, 0])
    with pytest.raises(ValueError, match="cannot replace 40"):
        await sim.reorg(40)


async def test_a_reorg_on_top_of_a_reorg_at_once(sim: BitcoinSimulator) -> None:
    """No two branches are the same, however quickly they come."""
    await sim.mine(2)
    heads = set()
    for _ in range(5):
        await sim.reorg(1)
        heads.add(await sim.head())
    assert len(heads) == 5


async def test_a_rival_replaces_what_waits(sim: BitcoinSimulator) -> None:
    """The first is in no block, ever; a rival has rivals; what is in a block has none."""
    tx_id = await sim.pay(await sim.new_address(), AMOUNT)
    rival = await sim.replace(tx_id)
    last = await sim.replace(rival)
    assert [await depth(sim, each) for each in (tx_id, rival, last)] == [None, None, 0]
    await sim.mine()
    assert [await depth(sim, each) for each in (tx_id, rival, last)] == [None, None, 1]
    with pytest.raises(NodeError, match="missingorspent"):
        await sim.replace(last)
    with pytest.raises(NodeError, match="was not sent by this simulator"):
        await sim.replace("00" * 32)


async def test_a_fee_can_be_raised(sim: BitcoinSimulator) -> None:
    """Another transaction with the same payment in the same place."""
    address = await sim.new_address()
    tx_id = await sim.pay(address, AMOUNT)
    bumped = await sim.bump(tx_id)
    assert await sim.fleet.waiting() == [bumped]
    assert await paid(sim, bumped, address) == [AMOUNT]


async def test_a_replacement_of_the_first_of_a_chain_drops_all_of_it(sim: BitcoinSimulator) -> None:
    address = await sim.new_address()
    chain = await sim.pay_through(address, AMOUNT, 4)
    assert await sim.fleet.waiting() == chain
    assert await paid(sim, chain[-1], address) == [AMOUNT]
    rival = await sim.replace(chain[0])
    assert await sim.fleet.waiting() == [rival]


async def test_what_is_dropped_is_gone_until_it_is_brought_back(sim: BitcoinSimulator) -> None:
    """And nothing else goes with it but what builds on it."""
    tx_id, other = [await sim.pay(await sim.new_address(), AMOUNT) for _ in range(2)]
    chain = await sim.pay_through(await sim.new_address(), AMOUNT, 3)
    await sim.drop(tx_id, chain[1])
    assert [await depth(sim, each) for each in (tx_id, other, *chain)] == [None, 0, 0, None, None]
    await sim.bring_back(tx_id)
    await sim.mine()
    assert [await depth(sim, each) for each in (tx_id, other)] == [1, 1]


async def test_a_double_spend_comes_with_its_block(sim: BitcoinSimulator) -> None:
    """Into the chain as it is, or into another branch of it, which keeps all else."""
    tx_id = await sim.pay(await sim.new_address(), AMOUNT)
    rival = await sim.double_spend_in_block(tx_id)
    assert (await depth(sim, tx_id), await depth(sim, rival)) == (None, 1)
    tx_id, other = [await sim.pay(await sim.new_address(), AMOUNT) for _ in range(2)]
    await sim.mine(2)
    rival = await sim.reverse(2, tx_id)
    assert [await depth(sim, each) for each in (tx_id, other, rival)] == [None, 3, 3]


async def test_a_block_can_reward_an_address(sim: BitcoinSimulator) -> None:
    address = await sim.new_address()
    tx_id = await sim.coinbase_to(address)
    assert await depth(sim, tx_id) == 1
    assert await paid(sim, tx_id, address) == [50 * COIN]


async def test_no_transaction_can_fail_in_a_block(sim: BitcoinSimulator) -> None:
    with pytest.raises(NotImplementedError, match="valid or in no block"):
        await sim.fail_next(await sim.new_address(), AMOUNT)


@pytest.mark.bitcoind
async def test_parted_nodes_go_their_own_ways_until_they_are_healed(two: BitcoinSimulator) -> None:
    """The longer branch wins everywhere; what the shorter held waits again; what waited anywhere waits everywhere."""
    await two.mine()
    assert await two.head(0) == await two.head(1)
    await two.fleet.partition()
    short = await two.pay(await two.new_address(), AMOUNT)
    await two.mine(2)
    long = await two.pay(await two.new_address(), AMOUNT, at=1)
    await two.mine(3, at=1)
    assert [await depth(two, short, at) for at in (0, 1)] == [2, None]
    assert [await depth(two, long, at) for at in (0, 1)] == [None, 3]
    await two.fleet.heal()
    assert await two.head(0) == await two.head(1)
    assert [await depth(two, each, at) for at in (0, 1) for each in (short, long)] == [0, 3, 0, 3]


@pytest.mark.bitcoind
async def test_a_node_that_was_unreachable_catches_up(two: BitcoinSimulator) -> None:
    """Ended in order it remembers what waited; killed it does not; the others go on without it."""
    tx_id = await two.pay(await two.new_address(), AMOUNT)
    await two.fleet.stop(1)
    await two.mine(2)
    await two.fleet.start(1)
    assert await depth(two, tx_id, 1) == 0
    await two.fleet.heal()
    assert [await depth(two, tx_id, at) for at in (0, 1)] == [2, 2]
    tx_id = await two.pay(await two.new_address(), AMOUNT)
    await two.fleet.stop(1, kill=True)
    await two.fleet.start(1)
    assert [await depth(two, tx_id, at) for at in (0, 1)] == [0, None]


@pytest.mark.bitcoind
async def test_a_password_replaces_the_cookie() -> None:
    async with BitcoinSimulator(password="not a secret") as sim:
        assert await sim.height() > 0
        assert {"user", "password"} <= sim.node.keys()
        assert "cookie_path" not in sim.node
        sim.fleet.nodes[0].password = "wrong"
        with pytest.raises(NodeError, match="401"):
            await sim.height()


@pytest.mark.bitcoind
async def test_leaving_ends_the_node_and_removes_its_folder() -> None:
    async with BitcoinSimulator() as sim:
        node = sim.fleet.nodes[0]
        pid, folder = node.pid, node.folder
        os.kill(pid, 0)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert folder is not None
    assert not await asyncio.to_thread(folder.exists)
    with pytest.raises(NodeError, match="not running"):
        await sim.mine()


@pytest.mark.bitcoind
async def test_a_port_that_is_used_is_reported() -> None:
    """In bitcoind's own words, and at once."""
    node = DaemonNode()
    try:
        await asyncio.to_thread(node.start)
        other = DaemonNode(port=node.port)
        with pytest.raises(NodeError, match="bitcoind ended with"):
            await asyncio.to_thread(other.start)
        other.remove()
        async with DevNodeRpc(node) as console:
            assert await console.rpc("getblockcount") == 0
    finally:
        node.remove()


@pytest.mark.parametrize("program", ["bitcoind", "litecoind"])
def test_a_missing_node_says_what_to_do(monkeypatch: pytest.MonkeyPatch, program: str) -> None:
    """Neither on PATH, nor where Debian or the environment has it."""
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv(f"RAILWATCH_{program.upper()}", "nowhere/node")
    monkeypatch.setattr("railwatch_bitcoin.dev.node_process.ELSEWHERE", {})
    with pytest.raises(NodeMissing, match="make setup"):
        find_node(program)
