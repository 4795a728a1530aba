"""What addresses hold, as anvil and a node that lies report it."""

from typing import Any

import pytest

from railwatch.rail import AssetId, BlockGone, BlockRef, RailUnavailable, SupportsBalances
from railwatch_evm import create_adapter
from railwatch_evm.dev.simulator import EvmSimulator
from tests.evm.conftest import Chain
from tests.faulty_proxy import Liar, answer, refuse_all


async def held(chain: Chain, address: str, asset: AssetId, at: BlockRef | None = None) -> int:
    """Return what the address holds of the asset after that block, or the newest."""
    assert isinstance(chain.rail, SupportsBalances)
    key = chain.rail.parse_address(address).key
    found = await chain.rail.balances([key], asset, at or (await chain.rail.heads()).latest)
    assert set(found) == {key}
    return found[key]


async def test_ether_without_a_transaction_is_in_the_balance(chain: Chain) -> None:
    """E14: a withdrawal is no transaction; anvil credits in the same way."""
    address = await chain.sim.new_address()
    before = (await chain.rail.heads()).latest
    await chain.sim.mine()  # what is set is set in the newest block
    await chain.sim.rpc("anvil_setBalance", address, hex(7))
    await chain.sim.pay_internal(address, 5)
    await chain.sim.mine()
    assert await held(chain, address, chain.sim.native) == 12
    assert await held(chain, address, chain.sim.native, before) == 0
    assert [each.amount for each in await chain.found(address)] == [5]


async def test_a_token_that_is_not_deployed_yet_has_no_holder(chain: Chain) -> None:
    address, before = await chain.sim.new_address(), (await chain.rail.heads()).latest
    token = AssetId(f"{chain.sim.chain_id}/erc20:{await chain.sim.deploy('Token', 1000)}")
    await chain.sim.call(token.rsplit(":", 1)[1], "transfer(address,uint256)", address, 5)
    await chain.sim.mine()
    assert await held(chain, address, token) == 5
    assert await held(chain, address, token, before) == 0


async def test_a_contract_without_balances_is_reported(chain: Chain) -> None:
    """Nothing is guessed: neither of a call that fails nor of an answer that is no amount."""
    address = await chain.sim.new_address()
    contract = AssetId(f"{chain.sim.chain_id}/erc20:{chain.sim.multisender}")
    with pytest.raises(BlockGone):
        await held(chain, address, contract)


@pytest.mark.parametrize("method", ["eth_getBalance", "eth_call"])
async def test_a_state_that_the_node_has_dropped_is_gone(lied_to: Chain, liar: Liar, method: str) -> None:
    address = await lied_to.sim.new_address()
    asset = lied_to.sim.assets[method == "eth_call"]
    assert await held(lied_to, address, asset) == 0
    liar.lies[method] = refuse_all
    with pytest.raises(BlockGone, match="no balance at block"):
        await held(lied_to, address, asset)


@pytest.mark.parametrize(
    ("method", "nonsense", "error"),
    [
        ("eth_getBalance", "many", RailUnavailable),
        ("eth_getBalance", "0x", RailUnavailable),
        ("eth_getBalance", "0x1" + "0" * 64, RailUnavailable),
        ("eth_getBalance", None, RailUnavailable),
        ("eth_getBalance", 7, RailUnavailable),
        ("eth_call", "0x07", BlockGone),
        ("eth_call", "0x" + "0" * 128, BlockGone),
        ("eth_call", "0x" + "z" * 64, BlockGone),
        ("eth_call", None, RailUnavailable),
    ],
)
async def test_an_answer_that_is_no_amount_is_no_balance(
    lied_to: Chain, liar: Liar, method: str, nonsense: Any, error: type[Exception]
) -> None:
    liar.lies[method] = answer(nonsense)
    with pytest.raises(error):
        await held(lied_to, await lied_to.sim.new_address(), lied_to.sim.assets[method == "eth_call"])


async def test_an_unreachable_node_is_unavailable(lied_to: Chain, liar: Liar) -> None:
    liar.status = 503
    with pytest.raises(RailUnavailable):
        await held(lied_to, await lied_to.sim.new_address(), lied_to.sim.native, lied_to.start)


async def test_a_hundred_addresses_are_one_request_by_the_blocks_hash(sim: EvmSimulator, liar: Liar) -> None:
    asked: list[Any] = []

    def note(params: list[Any], reply: dict[str, Any]) -> dict[str, Any]:
        asked.append(params[1])
        return reply

    async with create_adapter(sim.settings, {"http": liar.http}) as rail:
        assert isinstance(rail, SupportsBalances)
        liar.lies["eth_getBalance"] = note
        keys = [rail.parse_address(await sim.new_address()).key for _ in range(100)]
        head = (await rail.heads()).latest
        liar.requests.clear()
        assert set(await rail.balances(keys, sim.native, head)) == set(keys)
        assert liar.requests == [["eth_getBalance"] * 100]
        assert asked == [{"blockHash": head.hash}] * 100


@pytest.mark.parametrize("method", ["eth_getBalance", "eth_call"])
async def test_a_node_that_accepts_no_hash_is_asked_by_number(lied_to: Chain, liar: Liar, method: str) -> None:
    """EIP-1898 is not everywhere. By number another branch could answer, so the header has to be the same around it."""
    sim, address = lied_to.sim, await lied_to.sim.new_address()
    asset = sim.assets[method == "eth_call"]
    await sim.pay(address, 5, asset)
    await sim.mine()
    at = (await lied_to.rail.heads()).latest
    await sim.pay(address, 7, asset)
    await sim.mine()

    def by_number(params: list[Any], reply: dict[str, Any]) -> dict[str, Any]:
        if isinstance(params[1], str):
            return reply
        error = {"code": -32602, "message": "invalid argument 1: json: cannot unmarshal object into Go value"}
        return {"jsonrpc": "2.0", "id": reply["id"], "error": error}

    liar.lies[method] = by_number
    assert await held(lied_to, address, asset, at) == 5
    assert await held(lied_to, address, asset) == 12
    await sim.reorg(2)
    with pytest.raises(BlockGone, match="another block is at that height"):
        await held(lied_to, address, asset, at)
