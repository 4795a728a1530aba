"""From blocks and waiting transactions to transfers: who is paid, what is claimed, and who displaces whom."""

from collections.abc import Iterable
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from railwatch.conformance import WatchSet
from railwatch.conformance.watches import spends_of
from railwatch.rail import NO_RECIPIENT, AssetId, BlockRef, Transfer
from railwatch_bitcoin.block import read_block
from railwatch_bitcoin.chains import BITCOIN, BITCOIN_CASH, DOGECOIN, LITECOIN, Chain
from railwatch_bitcoin.decode import CLAIMS, OWN_CLAIMS, DecodeContext, block_transfers, claims, pending_transfers
from railwatch_bitcoin.wire import Tx, parse_tx
from tests.bitcoin.build import In, MadeBlock, MadeTx, Out, bare_multisig, coin, coinbase, data, p2pkh, p2tr, p2wpkh

US, US_TOO, OTHERS = p2wpkh(1), p2tr(2), p2pkh(3)
NATIVE = AssetId("bip122:x/slip44:0")
Claims = dict[str, set[str]]


def lens(chain: Chain = BITCOIN, spends: Claims | None = None, keys: Iterable[bytes] = (US, US_TOO)) -> DecodeContext:
    """A watch list with our scripts."""
    return DecodeContext(chain, "node-1", WatchSet(frozenset(keys), {"": NATIVE}, spends or {}))


def mined(
    *txs: MadeTx, at: DecodeContext | None = None, first: MadeTx | None = None, tail: bytes = b""
) -> list[Transfer]:
    """Return what a block of these transactions says."""
    at = at or lens()
    made = MadeBlock([first or coinbase(Out(1, OTHERS)), *txs], tail=tail)
    ref = BlockRef(7, made.hash, made.parent, datetime.fromtimestamp(made.time, UTC))
    return block_transfers(read_block(made.raw, at.chain, made.hash), ref, at)


def waiting(*txs: MadeTx, at: DecodeContext | None = None) -> list[Transfer]:
    """Return what a mempool of these transactions says."""
    at = at or lens()
    pool = {tx.id: parse_tx(tx.raw, at.chain, tx.id) for tx in txs}
    return pending_transfers(list(pool.values()), pool.get, at)


def pay(*coins: str, to: Iterable[bytes] = (US,), amount: int = 500) -> MadeTx:
    """Return a transaction that spends ``coins`` and pays each of ``to``."""
    return MadeTx([In(each) for each in coins], [Out(amount, script) for script in to])


def test_each_output_is_a_credit_of_its_own() -> None:
    """B6: a batch that pays several invoices, one of them twice."""
    tx = MadeTx([In(coin(1), sequence=0)], [Out(5, US), Out(6, OTHERS), Out(7, US_TOO), Out(8, US)])
    found = mined(tx)
    assert [(each.tx_index, each.to, each.amount) for each in found] == [
        ("vout:0", US, 5),
        ("vout:2", US_TOO, 7),
        ("vout:3", US, 8),
    ]
    assert {(each.tx_id, each.spends, each.rivals, each.maturity) for each in found} == {(tx.id, (coin(1),), (), 1)}
    assert found[0].block is not None
    assert found[0].block.height == 7
    assert found[0].asset == NATIVE


def test_the_evidence_is_what_a_person_would_ask_for() -> None:
    tx = MadeTx([In(coin(n), sequence=0) for n in range(20)], [Out(6, OTHERS), Out(5, US)])
    evidence = mined(tx)[0].evidence
    assert evidence == {
        "node": "node-1",
        "kind": "plain",
        "size": len(tx.raw),
        "replaceable": True,
        "input_count": 20,
        "inputs": [coin(n) for n in range(8)],
        "vout": 1,
        "address": evidence["address"],
    }
    assert evidence["address"].startswith("bc1q")


def test_what_waits_and_what_is_mined_is_the_same_credit() -> None:
    tx = pay(coin(1))
    before, after = waiting(tx)[0], mined(tx)[0]
    assert before.block is None
    assert (before.tx_id, before.tx_index, before.amount) == (after.tx_id, after.tx_index, after.amount)


def test_nothing_of_ours() -> None:
    assert mined(pay(coin(1), to=[OTHERS])) == waiting(pay(coin(1), to=[OTHERS])) == []
    assert mined(pay(coin(1)), at=lens(keys=())) == []


def test_zero_is_no_payment() -> None:
    assert mined(pay(coin(1), amount=0)) == waiting(pay(coin(1), amount=0)) == []


def test_a_chain_whose_coin_is_not_configured_credits_nothing() -> None:
    at = DecodeContext(BITCOIN, "node-1", WatchSet(frozenset((US,)), {}, {coin(1): {"old"}}))
    assert [(each.to, each.amount, each.asset) for each in mined(pay(coin(1)), at=at)] == [
        (NO_RECIPIENT, 0, f"{BITCOIN.id}/slip44:0")
    ]


def test_odd_neighbours_do_not_disturb() -> None:
    """B14."""
    odd = [Out(0, b""), Out(0, data(b"x")), Out(9, bare_multisig(9)), Out(9, b"\x4e"), Out(9, bytes(100_000))]
    assert [each.tx_index for each in mined(MadeTx([In(coin(1))], [*odd, Out(5, US)]))] == ["vout:5"]


@pytest.mark.parametrize(("chain", "depth"), [(BITCOIN, 100), (LITECOIN, 100), (DOGECOIN, 240), (BITCOIN_CASH, 100)])
def test_a_blocks_reward_has_to_ripen(chain: Chain, depth: int) -> None:
    """B7. Two rewards are no rivals, although both spend the same nothing."""
    found = mined(pay(coin(1)), at=lens(chain), first=coinbase(Out(5, US)))
    assert [(each.maturity, each.spends) for each in found] == [(depth, ()), (1, (coin(1),))]


def test_litecoins_peg_outs_ripen_and_its_own_balance_belongs_to_no_address() -> None:
    """B12."""
    balance = b"\x58\x20" + bytes(32)
    hogex = MadeTx([In(coin(1))], [Out(10**15, balance), Out(7, US)], mweb=b"")
    found = mined(hogex, at=lens(LITECOIN, keys=(US, balance)), tail=b"\0")
    assert [(each.tx_index, each.amount, each.maturity) for each in found] == [("vout:1", 7, 6)]
    assert found[0].evidence["kind"] == "hogex"


def test_money_next_to_a_cash_token_is_credited() -> None:
    prefix = b"\xef" + bytes(32) + b"\x10\x05"
    found = mined(pay(coin(1), to=[prefix + US], amount=800), at=lens(BITCOIN_CASH))
    assert [(each.to, each.amount, each.evidence["token"]) for each in found] == [(US, 800, "00" * 32)]


def test_a_malleated_payment_is_a_rival_of_what_was_seen() -> None:
    """B9: the same payment with another signature is another transaction; the coin says which of them lives."""
    seen, included = (MadeTx([In(coin(1), sig)], [Out(5, US)]) for sig in (b"sig-1", b"sig-2"))
    found = mined(included, at=lens(spends=spends_of(waiting(seen))))
    assert [(each.to, each.rivals) for each in found] == [(US, (seen.id,))]


# Rivals.


def test_a_rival_that_pays_us_too() -> None:
    old, new = pay(coin(1), coin(2)), pay(coin(2), coin(3), to=[US_TOO])
    at = lens(spends=spends_of(waiting(old)))
    for found in (waiting(new, at=at), mined(new, at=at)):
        assert [(each.to, each.amount, each.rivals) for each in found] == [(US_TOO, 500, (old.id,))]


def test_a_rival_that_pays_none_of_ours() -> None:
    """B1, B5."""
    old, new = pay(coin(1)), pay(coin(1), to=[OTHERS, OTHERS])
    at = lens(spends=spends_of(waiting(old)))
    for found in (waiting(new, at=at), mined(pay(coin(8), to=[OTHERS]), new, at=at)):
        assert [(each.to, each.amount, each.tx_index, each.rivals) for each in found] == [
            (NO_RECIPIENT, 0, "rival", (old.id,))
        ]
        assert found[0].tx_id == new.id
        assert found[0].spends == (coin(1),)


def test_a_rival_of_several() -> None:
    one, two, new = pay(coin(1)), pay(coin(2)), pay(coin(1), coin(2), to=[OTHERS])
    found = mined(new, at=lens(spends=spends_of(waiting(one, two))))
    assert [each.rivals for each in found] == [tuple(sorted((one.id, two.id)))]


def test_no_transaction_is_its_own_rival() -> None:
    tx = pay(coin(1))
    at = lens(spends=spends_of(waiting(tx)))
    assert [each.rivals for each in (*waiting(tx, at=at), *mined(tx, at=at))] == [(), ()]


def _family() -> tuple[MadeTx, MadeTx, MadeTx]:
    """Grandparent, parent and our payment, none of them settled."""
    grand = pay(coin(1), to=[OTHERS, OTHERS])
    parent = pay(f"{grand.id}:1", coin(2), to=[OTHERS])
    return grand, parent, pay(f"{parent.id}:0", coin(3))


def test_a_payment_claims_what_its_ancestors_spend() -> None:
    grand, parent, ours = _family()
    found = waiting(grand, parent, ours)
    assert [each.tx_id for each in found] == [ours.id]
    assert found[0].spends == (f"{parent.id}:0", coin(3), f"{grand.id}:1", coin(2), coin(1))


def test_what_replaces_an_ancestor_replaces_the_payment() -> None:
    grand, parent, ours = _family()
    at = lens(spends=spends_of(waiting(grand, parent, ours)))
    for coin_of_theirs in (coin(1), coin(2), f"{grand.id}:1"):
        rival = pay(coin_of_theirs, to=[OTHERS], amount=9)
        for found in (waiting(rival, at=at), mined(rival, at=at)):
            assert [(each.tx_id, each.rivals) for each in found] == [(rival.id, (ours.id,))], coin_of_theirs


def test_an_ancestor_that_is_mined_is_no_rival() -> None:
    grand, parent, ours = _family()
    at = lens(spends=spends_of(waiting(grand, parent, ours)))
    assert mined(grand, at=at) == mined(grand, parent, at=at) == []
    assert [(each.tx_id, each.rivals) for each in mined(grand, parent, ours, at=at)] == [(ours.id, ())]


def test_a_parent_in_place_of_the_parent_spends_the_same_and_is_a_rival() -> None:
    grand, parent, ours = _family()
    other = MadeTx(parent.ins, [Out(1, OTHERS)])
    at = lens(spends=spends_of(waiting(grand, parent, ours)))
    assert [(each.tx_id, each.rivals) for each in mined(grand, other, at=at)] == [(other.id, (ours.id,))]


def test_a_sibling_that_claims_the_same_coins_is_no_rival() -> None:
    """Two of ours descend from one transaction: when it is mined, neither falls; when it is replaced, both do."""
    parent = pay(coin(1), to=[OTHERS, OTHERS])
    one, two = pay(f"{parent.id}:0"), pay(f"{parent.id}:1", to=[US_TOO])
    at = lens(spends=spends_of(waiting(parent, one, two)))
    assert [each.rivals for each in mined(parent, one, two, at=at)] == [(), ()]
    rival = pay(coin(1), to=[OTHERS])
    assert [each.rivals for each in mined(rival, at=at)] == [tuple(sorted((one.id, two.id)))]


def test_one_of_ours_that_descends_from_another_of_ours() -> None:
    first = pay(coin(1))
    second = pay(f"{first.id}:0", to=[US_TOO])
    at = lens(spends=spends_of(waiting(first, second)))
    assert [each.rivals for each in (*waiting(first, second, at=at), *mined(first, second, at=at))] == [()] * 4
    rival = pay(coin(1), to=[OTHERS])
    assert mined(rival, at=at)[0].rivals == tuple(sorted((first.id, second.id)))


def test_ancestors_in_the_same_block_are_claimed_too() -> None:
    """After a reorg they wait again, together. Bitcoin Cash orders a block by id: an ancestor may come after."""
    grand, parent, ours = _family()
    expected = (f"{parent.id}:0", coin(3), f"{grand.id}:1", coin(2), coin(1))
    assert mined(grand, parent, ours)[0].spends == mined(ours, parent, grand)[0].spends == expected
    assert mined(parent, ours)[0].spends == expected[:-1]


def test_a_long_ancestry_is_bounded_and_an_ancestor_stays_one() -> None:
    chain = [pay(coin(1), to=[OTHERS])]
    for _ in range(3 * CLAIMS):
        chain.append(pay(f"{chain[-1].id}:0", to=[OTHERS]))
    ours = pay(f"{chain[-1].id}:0")
    found = waiting(*chain, ours)
    assert len(found[0].spends) == CLAIMS + 1
    assert mined(*chain, at=lens(spends=spends_of(found))) == []


def test_own_coins_come_first_and_are_bounded() -> None:
    parent = pay(*(coin(n) for n in range(2 * CLAIMS)), to=[OTHERS])
    ours = pay(f"{parent.id}:0", *(coin(n) for n in range(10_000, 10_000 + OWN_CLAIMS + 5)))
    found = claims_of(parent, ours)
    assert found[:OWN_CLAIMS] == tuple(each.coin for each in ours.ins)[:OWN_CLAIMS]
    assert found[OWN_CLAIMS:] == tuple(each.coin for each in parent.ins)[:CLAIMS]


def claims_of(*txs: MadeTx) -> tuple[str, ...]:
    """Return what the last of these claims, all of them waiting."""
    pool: dict[str, Tx] = {tx.id: parse_tx(tx.raw, BITCOIN) for tx in txs}
    return claims(pool[txs[-1].id], pool.get)


@given(st.data())
def test_in_any_tangle_the_mined_ancestors_displace_no_transaction(draw: st.DataObject) -> None:
    """Transactions spend each other's outputs at random; all of ours claim; then everything is mined."""
    txs: list[MadeTx] = []
    free = [coin(n) for n in range(4)]
    for _ in range(draw.draw(st.integers(1, 8))):
        spent = draw.draw(st.lists(st.sampled_from(free), min_size=1, max_size=3, unique=True))
        free = [each for each in free if each not in spent]
        scripts = draw.draw(st.lists(st.sampled_from((US, OTHERS)), min_size=2, max_size=3))
        txs.append(pay(*spent, to=scripts))
        free += [f"{txs[-1].id}:{vout}" for vout in range(len(scripts))]
    at = lens(spends=spends_of(waiting(*txs)))
    assert all(not each.rivals for each in (*waiting(*txs, at=at), *mined(*txs, at=at)))

    victim = draw.draw(st.sampled_from(txs))
    heirs = {victim.id}
    for tx in txs:
        if any(each.coin.partition(":")[0] in heirs for each in tx.ins):
            heirs.add(tx.id)
    fallen = {tx.id for tx in txs if tx.id in heirs and any(out.script == US for out in tx.outs)}
    rival = MadeTx([In(victim.ins[0].coin, b"rival")], [Out(1, OTHERS)])
    assert {each for found in mined(rival, at=at) for each in found.rivals} == fallen
