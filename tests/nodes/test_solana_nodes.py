"""Solana nodes as operators run them: short ledgers, balanced endpoints, hosted plans, clients that serve less."""

import base64
from typing import Any

import msgspec
import pytest

from railwatch.conformance import WatchSet
from railwatch.rail import (
    AssetId,
    BlockGone,
    BlockRef,
    ChainId,
    NotKept,
    RailFault,
    RailSettings,
    RailUnavailable,
    Span,
)
from railwatch_solana import create_adapter
from railwatch_solana.address import key_of, parse_address
from railwatch_solana.wire import Block, block_decoder
from tests.nodes.solana_node import BASE, CHAIN_ID, Backend, Refusal, SolanaEndpoint, block_hash

SHOP = "7PwCuKPmGF3ZqWHgn8zXPtsWJ7Ud2q1DFggRkzctwJnJ"
SETTINGS = RailSettings("sol", ChainId(CHAIN_ID))
WATCHES = WatchSet(frozenset({key_of(SHOP)}), {"": AssetId(f"{CHAIN_ID}/slip44:501")})


async def opened(endpoint: SolanaEndpoint, **node: Any) -> Any:
    """Return an entered adapter on it."""
    return await create_adapter(SETTINGS, {"http": endpoint.http, "timeout": 2, **node}).__aenter__()


async def test_a_short_ledger_says_where_it_begins() -> None:
    """S14, f03: what a look-back asks for below it is not kept; above it everything is found."""
    async with SolanaEndpoint([Backend(57, first=37, paid={40: (SHOP, 5)})]) as endpoint:
        rail = await opened(endpoint)
        with pytest.raises(NotKept, match=r"its first block is 37|First available: 37") as refused:
            await rail.block_at(0)
        assert refused.value.first == 37
        span = Span(await rail.block_at(37), (await rail.heads()).latest, sparse=True)
        assert [each.amount for each in (await rail.scan(span, WATCHES)).transfers] == [5]
        await rail.__aexit__(None, None, None)


async def test_a_head_that_another_node_has_is_lag_and_no_other_chain() -> None:
    """S15, f04: one back end calls slot 48 confirmed, the next one is at 25."""
    fresh = Backend(48, methods={"getBlock": _not_there, "getSlot": lambda *_: 25})
    async with SolanaEndpoint([fresh]) as endpoint:
        rail = create_adapter(SETTINGS, {"http": endpoint.http, "timeout": 2})
        with pytest.raises(RailUnavailable, match=r"at different slots|behind this endpoint, is behind"):
            await rail.__aenter__()


def _not_there(slot: int, _: Any) -> Any:
    raise Refusal(-32004, f"Block not available for slot {slot}")


async def test_an_index_that_is_behind_is_never_no_payment() -> None:
    """S15, f07: it answers an empty list truthfully; it is not asked without saying what it must have seen."""
    paid = {6: (SHOP, 5_000_000)}
    async with SolanaEndpoint([Backend(35, paid=paid)]) as endpoint:
        rail = await opened(endpoint)
        span = Span(await rail.block_at(0), (await rail.heads()).latest, sparse=True)
        index_methods = ("getTokenAccountsByOwner", "getSignaturesForAddress")
        behind = Backend(3, paid=paid)
        endpoint.backends[0].methods = {
            name: lambda *params, name=name: behind.answer(name, list(params)) for name in index_methods
        }
        with pytest.raises(RailUnavailable, match="-32016"):
            await rail.scan(span, WATCHES)
        # And a proxy that drops the option is seen through by the slot that the answer is about.
        endpoint.backends[0].methods = {
            name: lambda *params, name=name: getattr(behind, name)(*params) for name in index_methods
        }
        with pytest.raises(RailUnavailable, match="its index is at slot 3"):
            await rail.scan(span, WATCHES)
        endpoint.backends[0].methods = {}
        assert [each.amount for each in (await rail.scan(span, WATCHES)).transfers] == [5_000_000]
        await rail.__aexit__(None, None, None)


@pytest.mark.parametrize("times", range(5))
async def test_a_balancer_with_a_stuck_node_never_says_that_a_block_is_gone(times: int) -> None:
    """Every second request is answered from below: the answer is right or unavailable, and comes in time."""
    paid = {43: (SHOP, 9), 46: (SHOP, 11)}
    async with SolanaEndpoint([Backend(40, paid=paid), Backend(25)]) as endpoint:
        endpoint.backends[1].slot = 40
        rail = await opened(endpoint)
        start = (await rail.heads()).latest
        endpoint.backends[0].slot = 48
        if times % 2:
            await rail.block_at(40)
        found: list[int] = []
        head = start
        for _ in range(400):
            try:
                latest = (await rail.heads()).latest
                if latest.height <= head.height:
                    continue
                scanned = await rail.scan(Span(head, latest), WATCHES)
            except RailUnavailable:
                continue
            found += [each.amount for each in scanned.transfers]
            head = latest
            break
        assert (head.height, found) == (48, [9, 11])
        assert await _either(rail.block_at(45)) in (45, None)
        with pytest.raises((BlockGone, RailUnavailable)):
            await rail.block_at(49)
        await rail.__aexit__(None, None, None)


async def _either(asked: Any) -> int | None:
    try:
        return int((await asked).height)
    except RailUnavailable:
        return None


PLANS = [
    Refusal(-32600, "Method not available on your plan"),
    Refusal(403, "Access forbidden"),
    Refusal(-32052, "API key is not allowed to access this method"),
    Refusal(-32602, "Invalid params"),
    Refusal(-32010, "excluded from account secondary indexes; this RPC method is unavailable for key"),
    Refusal(-32601, "Method not found"),
    403,
]


@pytest.mark.parametrize("plan", PLANS, ids=str)
@pytest.mark.parametrize("method", ["getTokenAccountsByOwner", "getSignaturesForAddress", "getTransaction"])
async def test_a_plan_without_an_index_is_asked_for_its_blocks(method: str, plan: Refusal | int) -> None:
    """f12: in whatever words or status, a refusal is a missing ability."""

    def refuse(*_: Any) -> Any:
        assert isinstance(plan, Refusal)
        raise plan

    async with SolanaEndpoint([Backend(35, paid={6: (SHOP, 5)})]) as endpoint:
        rail = await opened(endpoint)
        if isinstance(plan, Refusal):
            endpoint.backends[0].methods[method] = refuse
        else:
            endpoint.statuses[method] = 403
        span = Span(await rail.block_at(0), (await rail.heads()).latest, sparse=True)
        scanned = await rail.scan(span, WATCHES)
        assert (scanned.method, [each.amount for each in scanned.transfers]) == ("blocks", [5])
        await rail.__aexit__(None, None, None)


@pytest.mark.parametrize("status", [501, 403, 405])
async def test_a_client_without_blocks_is_named(status: int) -> None:
    """f14: Firedancer answers 501 to getBlock."""
    async with SolanaEndpoint([Backend(35)], statuses={"getBlock": status}) as endpoint:
        with pytest.raises(
            RailUnavailable, match="does not serve getBlock, which the rail needs: a Firedancer node serves none"
        ):
            await opened(endpoint)


async def test_an_endpoint_without_batches_and_health_is_good_enough() -> None:
    async with SolanaEndpoint([Backend(35)], takes_batches=False) as endpoint:
        endpoint.backends[0].methods["getHealth"] = _no_health
        rail = await opened(endpoint, headers={"x-api-key": "s3cret"})
        assert (await rail.heads()).latest.height == 35
        assert {each.get("x-api-key") for each in endpoint.headers} == {"s3cret"}
        await rail.__aexit__(None, None, None)


def _no_health() -> Any:
    raise Refusal(-32601, "Method not found")


@pytest.mark.parametrize("missing", ["transactions", "blockhash", "previousBlockhash", "parentSlot", "blockTime"])
async def test_nothing_that_a_block_must_have_is_supplied(missing: str) -> None:
    """A block without its transactions is no empty block."""
    backend = Backend(35)
    async with SolanaEndpoint([backend]) as endpoint:
        rail = await opened(endpoint)
        after = await rail.block_at(34)
        upto = await rail.block_at(35)

        def getBlock(slot: int, options: Any) -> Any:
            block = Backend.getBlock(backend, slot, options)
            return {name: value for name, value in block.items() if name != missing}

        backend.methods["getBlock"] = getBlock
        with pytest.raises((RailUnavailable, RailFault)):
            await rail.scan(Span(after, upto), WATCHES)
        await rail.__aexit__(None, None, None)


@pytest.mark.parametrize("now", ["there", "closed"])
@pytest.mark.parametrize("age", ["old", "new"])
async def test_an_old_block_without_owners_is_read_by_what_the_accounts_say(age: str, now: str) -> None:
    """Blocks of 2021 name no owners. A newer one must, or its account must say whose it is."""
    account, mint = "B2pPLcxHFAkrYYAEMMkpUb4QtSR46FJ5u6bYWapwW9Fj", "So11111111111111111111111111111111111111112"
    backend = Backend(35, paid={35: (account, 5)})

    def getBlock(slot: int, options: Any) -> Any:
        block = Backend.getBlock(backend, slot, options)
        for tx in block.get("transactions", ()):
            tx["meta"]["postTokenBalances"] = [{"accountIndex": 1, "mint": mint, "uiTokenAmount": {"amount": "7"}}]
        return {**block, "blockTime": 1_633_504_705 if age == "old" else BASE}

    def getMultipleAccounts(accounts: list[str], options: Any) -> Any:
        assert accounts == [account]
        owned = {"data": [base64.b64encode(key_of(SHOP)).decode(), "base64"], "lamports": 1}
        return {"context": {"slot": 35}, "value": [owned if now == "there" else None]}

    backend.methods |= {"getBlock": getBlock, "getMultipleAccounts": getMultipleAccounts}
    async with SolanaEndpoint([backend]) as endpoint:
        rail = await opened(endpoint)
        span = Span(await rail.block_at(34), await rail.block_at(35))
        if (age, now) == ("new", "closed"):
            with pytest.raises(RailFault, match=f"the owner of token account {account} is not known"):
                await rail.scan(span, WATCHES)
        else:
            credits = [(each.amount, each.asset) for each in (await rail.scan(span, WATCHES)).transfers]
            assert credits == ([(7, f"{CHAIN_ID}/token:{mint}")] if now == "there" else [])
        await rail.__aexit__(None, None, None)


def test_the_forms_of_a_block_are_distinguished() -> None:
    raw = msgspec.json.encode({"id": 1, "result": Backend(35).getBlock(3, {"transactionDetails": "accounts"})})
    block = block_decoder.decode(raw).result
    assert isinstance(block, Block)
    assert block.blockhash == block_hash(3)


@pytest.mark.parametrize("behind", ["null for a while", "null for ever", "a node that is behind"])
async def test_a_transaction_that_only_the_index_names_is_read_in_its_block(behind: str) -> None:
    """S15: `getTransaction` accepts no slot that its node must have seen, and one that is behind answers null."""
    paid = {slot: (SHOP, slot) for slot in range(5, 33, 3)}
    fresh, stale = Backend(35, paid=paid), Backend(35, paid=paid)
    async with SolanaEndpoint([fresh, stale] if behind == "a node that is behind" else [fresh]) as endpoint:
        rail = await opened(endpoint)
        span = Span(await rail.block_at(0), (await rail.heads()).latest, sparse=True)
        nulls = iter([None, None, None] if behind == "null for a while" else [None] * 1_000)

        def getTransaction(signature: str, options: Any) -> Any:
            return next(nulls, Backend.getTransaction(fresh, signature, options))

        (stale if behind == "a node that is behind" else fresh).methods["getTransaction"] = getTransaction
        scanned = await rail.scan(span, WATCHES)
        assert (scanned.method, [each.amount for each in scanned.transfers]) == ("index", sorted(paid))
        await rail.__aexit__(None, None, None)


async def test_a_block_that_is_null_at_first_is_asked_for_again() -> None:
    """S11, S15: as one that the node has not yet, in whatever way it says so."""
    backend = Backend(35, paid={33: (SHOP, 5)})
    async with SolanaEndpoint([backend]) as endpoint:
        rail = await opened(endpoint)
        span = Span(await rail.block_at(30), (await rail.heads()).latest)
        nulls = iter([None] * 4)
        backend.methods["getBlock"] = lambda *params: next(nulls, Backend.getBlock(backend, *params))
        assert [each.amount for each in (await rail.scan(span, WATCHES)).transfers] == [5]
        await rail.__aexit__(None, None, None)


@pytest.mark.parametrize("says", ["in its refusal", "by a list of one", "by its list"])
async def test_a_short_ledger_says_where_it_begins_also_where_that_question_is_refused(says: str) -> None:
    """S14: a look-back without that slot would be tried again for ever."""
    backend = Backend(57, first=37)

    def refuse(*_: Any) -> Any:
        raise Refusal(-32601, "Method not found")

    def getBlock(slot: int, options: Any) -> Any:
        if slot < 37 and says != "in its refusal":
            raise Refusal(-32001, f"Block {slot} cleaned up, does not exist on node")
        return Backend.getBlock(backend, slot, options)

    backend.methods |= {"getFirstAvailableBlock": refuse, "getBlock": getBlock}
    if says == "by its list":
        backend.methods["getBlocksWithLimit"] = refuse
    async with SolanaEndpoint([backend]) as endpoint:
        rail = await opened(endpoint)
        upto = (await rail.heads()).latest
        below = BlockRef(20, block_hash(20), block_hash(19), upto.time)
        with pytest.raises(NotKept, match="has pruned the block of slot") as refused:
            await rail.scan(Span(below, upto), WATCHES)
        assert refused.value.first == 37
        await rail.__aexit__(None, None, None)


async def test_an_account_that_a_plan_does_not_serve_delays_no_registration() -> None:
    """f12: as on entering; what passes is asked for again."""
    backend, address = Backend(35), parse_address(SHOP)
    asset = AssetId(f"{CHAIN_ID}/slip44:501")
    answers: list[Any] = [Refusal(-32601, "Method not found"), Refusal(-32005, "Node is behind by 9 slots")]

    def getAccountInfo(*_: Any) -> Any:
        if answers:
            raise answers[0]
        return {"context": {"slot": 35}, "value": None}

    async with SolanaEndpoint([backend]) as endpoint:
        backend.methods["getAccountInfo"] = lambda *_: {"context": {"slot": 35}, "value": None}
        rail = await opened(endpoint)
        backend.methods["getAccountInfo"] = getAccountInfo
        assert await rail.check_payment(address, asset, 1, None) is None
        answers.pop(0)
        with pytest.raises(RailUnavailable, match="behind by 9"):
            await rail.check_payment(address, asset, 1, None)
        await rail.__aexit__(None, None, None)
