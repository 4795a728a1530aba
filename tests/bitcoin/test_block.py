"""Whole blocks: real ones, constructed ones, and every way of not being one."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from railwatch_bitcoin.block import Block, merkle_root, read_block
from railwatch_bitcoin.chains import BITCOIN, BITCOIN_CASH, CHAINS, DOGECOIN, LITECOIN, LITECOIN_REGTEST, Chain
from railwatch_bitcoin.wire import TxKind
from tests.bitcoin.build import (
    In,
    MadeBlock,
    MadeTx,
    Out,
    bare_multisig,
    coin,
    coinbase,
    compact,
    data,
    hash256,
    p2pk,
    p2pkh,
    p2sh,
    p2tr,
    p2wpkh,
    p2wsh,
    tree_root,
)
from tests.bitcoin.test_wire import TRANSACTIONS

DATA = Path(__file__).parent / "data"
KNOWN = json.loads((DATA / "known.json").read_text())["blocks"]
BY_NAME = {chain.name: chain for chain in CHAINS}
EVERY_KIND = MadeBlock(
    [
        coinbase(Out(50 * 10**8, p2pkh(1)), Out(0, data(b"\xaa\x21\xa9\xed" + bytes(32)))),
        MadeTx([In(coin(1), b"\x51")], [Out(n, kind(n)) for n, kind in enumerate((p2pk, p2pkh, p2sh, p2wpkh), 1)]),
        MadeTx([In(coin(2), witness=[b"s" * 71, b"k" * 33]), In(coin(3))], [Out(5, p2wsh(5)), Out(6, p2tr(6))]),
        MadeTx([In(coin(4), witness=[b"s" * 64, b"\x50annex"])], [Out(0, data(b"hi")), Out(7, bare_multisig(7))]),
        MadeTx([In(coin(5))], [Out(0, b""), Out(8, bytes(600))]),
    ]
)


def refusal(raw: bytes, chain: Chain = BITCOIN, block_hash: str | None = None) -> str:
    """Why these bytes are no block."""
    with pytest.raises(ValueError, match=r".") as refused:
        read_block(raw, chain, block_hash)
    return str(refused.value)


def payments_of(block: Block) -> list[object]:
    """All that a block can say of payments."""
    return [(tx.id, tx.inputs, tx.outputs) for tx in map(block.tx, range(len(block)))]


@pytest.mark.parametrize("each", KNOWN, ids=lambda each: f"{each['chain']} {each['height']}: {each['note']}")
def test_real_blocks_are_proven_by_their_hashes(each: dict[str, str]) -> None:
    chain = BY_NAME[each["chain"]]
    block = read_block(bytes.fromhex(each["raw"]), chain, each["hash"])
    txs = [block.tx(place) for place in range(len(block))]
    assert txs[0].kind is TxKind.COINBASE
    assert [output.script for tx in txs for output in tx.outputs] == block.scripts
    assert all(block.find(tx.id) == tx for tx in txs)


def test_the_genesis_block_names_its_chain() -> None:
    for each in KNOWN:
        if not each["height"]:
            assert BY_NAME[each["chain"]].landmarks[0] == (0, each["hash"])


def test_every_kind_of_output_and_input() -> None:
    block = read_block(EVERY_KIND.raw, BITCOIN, EVERY_KIND.hash)
    assert payments_of(block) == [
        (
            made.id,
            () if place == 0 else tuple(each.coin for each in made.ins),
            block.tx(place).outputs,
        )
        for place, made in enumerate(EVERY_KIND.txs)
    ]
    assert block.scripts == [out.script for tx in EVERY_KIND.txs for out in tx.outs]
    assert len(block.coins) == 6
    assert block.find("ab" * 32) is None


def test_places_are_found_from_scripts_and_coins() -> None:
    block = read_block(EVERY_KIND.raw, BITCOIN)
    assert [block.payer(at) for at in range(len(block.scripts))] == [0, 0, 1, 1, 1, 1, 2, 2, 3, 3, 4, 4]
    assert [block.spender(at) for at in range(len(block.coins))] == [0, 1, 2, 2, 3, 4]


def test_a_transaction_without_outputs_pays_for_none() -> None:
    """Consensus forbids it, and a cautious reader does not mix up its neighbours."""
    made = MadeBlock([coinbase(Out(1, p2pkh(1))), MadeTx([In(coin(1))], []), MadeTx([In(coin(2))], [Out(2, p2pkh(2))])])
    block = read_block(made.raw, BITCOIN)
    assert [block.payer(at) for at in range(2)] == [0, 2]
    assert block.tx(1).outputs == ()


@settings(max_examples=50)
@given(st.lists(TRANSACTIONS, max_size=6, unique_by=lambda tx: tx.id))
def test_what_was_written_is_read(txs: list[MadeTx]) -> None:
    made = MadeBlock([coinbase(Out(1, p2pkh(1))), *txs])
    block = read_block(made.raw, BITCOIN, made.hash)
    assert [block.tx(place).id for place in range(len(block))] == [tx.id for tx in made.txs]
    assert block.scripts == [out.script for tx in made.txs for out in tx.outs]


def test_no_truncation_and_nothing_left_over() -> None:
    raw = EVERY_KIND.raw
    for size in range(len(raw)):
        refusal(raw[:size])
    assert f"the block has {len(raw)} bytes, but {len(raw) + 1} came" in refusal(raw + b"\0")
    assert "ends before its time" in refusal(raw[:-1]) or "came" in refusal(raw[:-1])


@settings(max_examples=400)
@given(st.integers(0, len(EVERY_KIND.raw) - 1), st.integers(1, 255))
def test_no_changed_byte_shows_other_payments(place: int, change: int) -> None:
    """Either the bytes are refused, or what changed (a witness) does not change the payments."""
    raw = bytearray(EVERY_KIND.raw)
    raw[place] ^= change
    try:
        block = read_block(bytes(raw), BITCOIN, EVERY_KIND.hash)
    except ValueError:
        return
    assert payments_of(block) == payments_of(read_block(EVERY_KIND.raw, BITCOIN))


def test_another_block_than_asked_for() -> None:
    assert f"block {EVERY_KIND.hash}, not of beef" in refusal(EVERY_KIND.raw, block_hash="beef")


def test_a_block_begins_with_a_coinbase() -> None:
    assert "no coinbase" in refusal(MadeBlock([MadeTx([In(coin(1))], [Out(1, p2pkh(1))])]).raw)
    empty = EVERY_KIND.raw[:80] + compact(0)
    assert "no coinbase" in refusal(empty)


def test_transactions_that_the_header_does_not_commit_to() -> None:
    other = MadeBlock([*EVERY_KIND.txs[:-1]], hashes=[tx.hash for tx in EVERY_KIND.txs])
    assert "header commits to" in refusal(other.raw)


def test_a_tree_whose_last_leaves_are_doubled_is_refused() -> None:
    """CVE-2012-2459: the root is the same, and each payment would be reported twice."""
    txs = [coinbase(Out(1, p2pkh(1))), *(MadeTx([In(coin(n))], [Out(n, p2pkh(n))]) for n in (1, 2))]
    doubled = MadeBlock([*txs, txs[-1]])
    assert doubled.hash == MadeBlock(txs).hash
    read_block(MadeBlock(txs).raw, BITCOIN)
    assert "in the block twice" in refusal(doubled.raw)


@given(st.lists(st.binary(min_size=32, max_size=32), min_size=1, max_size=20))
def test_the_tree_is_that_of_the_definition(leaves: list[bytes]) -> None:
    assert merkle_root(leaves) == tree_root(leaves)


def test_litecoins_extension_block() -> None:
    """B12: the HogEx comes last, MWEB's part behind it, and what was pegged out is an ordinary output."""
    hogex = MadeTx([In(coin(9))], [Out(10**15, b"\x58\x20" + bytes(32)), Out(70, p2wpkh(3))], mweb=b"")
    txs = [coinbase(Out(1, p2pkh(1))), MadeTx([In(coin(1))], [Out(2, b"\x59\x20" + bytes(32))]), hogex]
    for tail in (b"\1" + bytes(range(256)) * 9, b"\0"):
        made = MadeBlock(txs, tail=tail)
        block = read_block(made.raw, LITECOIN, made.hash)
        assert [block.tx(place).kind for place in range(3)] == [TxKind.COINBASE, TxKind.PLAIN, TxKind.HOGEX]
        assert block.tx(2).outputs[1].script == p2wpkh(3)
    assert "ends before" in refusal(MadeBlock(txs).raw, LITECOIN)
    assert "came" in refusal(MadeBlock(txs, tail=b"\0\0").raw, LITECOIN)
    assert "came" in refusal(MadeBlock(txs[:2], tail=b"\0").raw, LITECOIN)


def test_a_real_peg_out() -> None:
    """B12, from Litecoin Core itself: 1,801 bytes, of which MWEB's part behind the transactions is most."""
    real = json.loads((DATA / "hogex.json").read_text())
    block = read_block(bytes.fromhex(real["raw"]), LITECOIN_REGTEST, real["hash"])
    assert [block.tx(place).kind for place in range(len(block))] == [TxKind.COINBASE, TxKind.HOGEX]
    held, pegged_out = block.tx(1).outputs
    assert held.script[:2] == b"\x58\x20"
    assert (pegged_out.amount, pegged_out.script.hex()) == (real["amount"], real["script"])


def test_a_block_holds_no_transaction_with_its_mweb_part() -> None:
    carrying = MadeTx([In(coin(1))], [Out(2, p2pkh(2))], mweb=b"\7" * 50)
    assert "still carries" in refusal(MadeBlock([coinbase(Out(1, p2pkh(1))), carrying]).raw, LITECOIN)


def _merge_mined() -> MadeBlock:
    """Dogecoin mined with Litecoin: the parent's coinbase, its place in the parent's tree, and the parent's header."""
    parent = MadeBlock([coinbase(Out(6, p2pkh(5))), MadeTx([In(coin(3))], [Out(1, p2pkh(6))])])
    branch = compact(1) + parent.txs[1].hash + bytes(4)
    chains = compact(300) + hash256(b"chains") * 300 + b"\5\0\0\0"
    proof = parent.txs[0].raw + bytes.fromhex(parent.hash)[::-1] + branch + chains + parent.header
    txs = [coinbase(Out(10_000 * 10**8, p2pkh(1))), MadeTx([In(coin(1))], [Out(2, p2pkh(2))])]
    return MadeBlock(txs, version=0x620104, proof=proof)


def test_merge_mined_blocks_carry_another_chains_proof() -> None:
    made = _merge_mined()
    block = read_block(made.raw, DOGECOIN, made.hash)
    assert block.scripts == [p2pkh(1), p2pkh(2)]
    assert block.tx(0).kind is TxKind.COINBASE
    for size in range(0, len(made.raw), 37):
        refusal(made.raw[:size], DOGECOIN)
    refusal(made.raw, BITCOIN)
    plain = MadeBlock(made.txs, version=0x620004)
    assert read_block(plain.raw, DOGECOIN).scripts == block.scripts


def test_cash_tokens_in_a_block() -> None:
    prefix = b"\xef" + bytes(32) + b"\x10\x05"
    made = MadeBlock([coinbase(Out(1, p2pkh(1))), MadeTx([In(coin(1))], [Out(9, prefix + p2pkh(2)), Out(3, p2pkh(3))])])
    block = read_block(made.raw, BITCOIN_CASH)
    assert block.scripts == [p2pkh(1), p2pkh(2), p2pkh(3)]
    assert [output.amount for output in block.tx(1).outputs] == [9, 3]
    assert read_block(made.raw, BITCOIN).scripts[1] == prefix + p2pkh(2)


@given(st.binary(max_size=300))
def test_any_bytes_are_a_block_or_refused(tail: bytes) -> None:
    for chain in (BITCOIN, LITECOIN, DOGECOIN, BITCOIN_CASH):
        for start in (b"", EVERY_KIND.raw[:80], EVERY_KIND.raw[:200]):
            refusal(start + tail, chain)
