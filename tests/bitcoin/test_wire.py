"""Transactions of every kind, byte by byte. Of real ones the id is the proof: it is the hash of what was read."""

import json
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from railwatch_bitcoin.chains import BITCOIN, BITCOIN_CASH, DOGECOIN, LITECOIN, Chain
from railwatch_bitcoin.tokens import split_token
from railwatch_bitcoin.wire import Output, Tx, TxKind, parse_header, parse_tx
from tests.bitcoin.build import In, MadeTx, Out, bare_multisig, coin, coinbase, compact, data, hash256, p2pkh, p2tr

KNOWN = json.loads((Path(__file__).parent / "data" / "known.json").read_text())
REAL = {each["id"]: each for each in KNOWN["transactions"]}
CATEGORY = bytes(range(32))


def real(start: str) -> Tx:
    """Return a real transaction, read, by the beginning of its id."""
    found = next(each for tx_id, each in REAL.items() if tx_id.startswith(start))
    return parse_tx(bytes.fromhex(found["raw"]), BITCOIN, found["id"])


@pytest.mark.parametrize("tx", REAL.values(), ids=lambda tx: tx["note"])
def test_real_transactions_have_their_ids(tx: dict[str, str]) -> None:
    raw = bytes.fromhex(tx["raw"])
    assert parse_tx(raw, BITCOIN).id == tx["id"]
    assert parse_tx(raw, BITCOIN, tx["id"]).size == len(raw)


def test_the_first_payment_ever() -> None:
    tx = real("f4184fc5")
    assert tx.inputs == ("0437cd7f8525ceed2324359c2d0ba26006d92d856a9c20fa0241106ee5a597c9:0",)
    assert [output.amount for output in tx.outputs] == [10 * 10**8, 40 * 10**8]
    assert tx.outputs[0].script[:1] + tx.outputs[0].script[-1:] == b"\x41\xac"
    assert (tx.kind, tx.replaceable) == (TxKind.PLAIN, False)


def test_taproot_next_to_data() -> None:
    tx = real("33e794d0")
    assert tx.outputs[0] == Output(0, b"\x6a\x2f" + b"I like Schnorr sigs and I cannot lie. @bitbug42")
    assert tx.outputs[1].script[:2] == b"\x51\x20"
    assert tx.replaceable


def test_scripts_whose_pushes_run_past_their_end() -> None:
    tx = real("ebc9fa11")
    assert [len(output.script) for output in tx.outputs] == [1, 2, 1, 3, 1, 4, 1, 6]
    assert {output.amount for output in tx.outputs} == {1}


def test_a_coinbase_that_is_in_two_blocks_is_one_transaction() -> None:
    """B8: BIP30 came because of these; only the blocks that hold them differ."""
    tx = real("d5d27987")
    assert (tx.kind, tx.inputs) == (TxKind.COINBASE, ())


def test_the_id_leaves_the_witness_out() -> None:
    bare = MadeTx([In(coin(1), b"\x51")], [Out(5, p2tr(1))])
    signed = MadeTx([In(coin(1), b"\x51", [b"sig", b"", b"\x50" + b"annex" * 60])], [Out(5, p2tr(1))])
    assert parse_tx(bare.raw, BITCOIN).id == parse_tx(signed.raw, BITCOIN).id == bare.id
    assert parse_tx(signed.raw, BITCOIN).size == len(signed.raw) > len(bare.raw)


def test_odd_transactions_are_read_all_the_same() -> None:
    """B14: none of them may stop a rail."""
    odd: dict[str, MadeTx] = {
        "no outputs": MadeTx([In(coin(1))], []),
        "nothing paid to an empty script": MadeTx([In(coin(1))], [Out(0, b"")]),
        "a script of a megabyte": MadeTx([In(coin(1))], [Out(1, bytes(1_000_000))]),
        "300 inputs and outputs": MadeTx([In(coin(n), bytes(300)) for n in range(300)], [Out(1, p2pkh(1))] * 300),
        "70,000 outputs": MadeTx([In(coin(1))], [Out(1, b"\x51")] * 70_000),
        "bare multisig": MadeTx([In(coin(1))], [Out(9, bare_multisig(1)), Out(0, data(b"x" * 75))]),
        "all the money": MadeTx([In(coin(1))], [Out(21 * 10**14, p2pkh(1))]),
        "a witness of 300 items": MadeTx([In(coin(1), witness=[b"x"] * 300), In(coin(2))], [Out(1, p2pkh(1))]),
        "a witness item of 4 million bytes": MadeTx([In(coin(1), witness=[bytes(4_000_000)])], [Out(1, p2pkh(1))]),
        "a negative version": MadeTx([In(coin(1))], [Out(1, p2pkh(1))], version=-1, lock_time=2**32 - 1),
    }
    for name, made in odd.items():
        tx = parse_tx(made.raw, BITCOIN)
        assert tx.id == made.id, name
        assert tx.inputs == tuple(each.coin for each in made.ins), name
        assert [(each.amount, each.script) for each in tx.outputs] == [(o.amount, o.script) for o in made.outs], name


def test_what_says_that_it_may_be_replaced() -> None:
    for sequence, replaceable in ((0xFFFFFFFF, False), (0xFFFFFFFE, False), (0xFFFFFFFD, True), (0, True)):
        made = MadeTx([In(coin(1), b"\x51" * 300), In(coin(2), sequence=sequence)], [Out(1, p2pkh(1))])
        assert parse_tx(made.raw, BITCOIN).replaceable is replaceable


def test_no_truncation_and_nothing_left_over() -> None:
    for each in REAL.values():
        raw = bytes.fromhex(each["raw"])
        for size in range(len(raw)):
            with pytest.raises(ValueError, match=r"ends before|came|spends nothing|flags"):
                parse_tx(raw[:size], BITCOIN)
        with pytest.raises(ValueError, match="came"):
            parse_tx(raw + b"\0", BITCOIN)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_transaction_or_refused(raw: bytes) -> None:
    for chain in (BITCOIN, LITECOIN, DOGECOIN, BITCOIN_CASH):
        try:
            tx = parse_tx(raw, chain)
        except ValueError:
            continue
        assert tx.size == len(raw)


INPUTS = st.builds(
    In,
    coin=st.integers(0, 9).map(coin),
    script=st.binary(max_size=300),
    witness=st.lists(st.binary(max_size=300), max_size=3),
    sequence=st.integers(0, 2**32 - 1),
)
OUTPUTS = st.builds(Out, amount=st.integers(0, 2**62), script=st.binary(max_size=300))
TRANSACTIONS = st.builds(
    MadeTx,
    ins=st.lists(INPUTS, min_size=1, max_size=5),
    outs=st.lists(OUTPUTS, max_size=5),
    version=st.integers(-(2**31), 2**31 - 1),
    lock_time=st.integers(0, 2**32 - 1),
)


@given(TRANSACTIONS)
def test_what_was_written_is_read(made: MadeTx) -> None:
    tx = parse_tx(made.raw, BITCOIN, made.id)
    assert tx.inputs == tuple(each.coin for each in made.ins)
    assert [(each.amount, each.script) for each in tx.outputs] == [(each.amount, each.script) for each in made.outs]


def test_bytes_of_another_transaction_are_refused() -> None:
    made = MadeTx([In(coin(1))], [Out(1, p2pkh(1))])
    with pytest.raises(ValueError, match=f"transaction {made.id}, not of beef"):
        parse_tx(made.raw, BITCOIN, "beef")


def test_undefined_flags_are_refused() -> None:
    made = MadeTx([In(coin(1), witness=[b"x"])], [Out(1, p2pkh(1))])
    raw = made.raw[:5] + b"\x03" + made.raw[6:]
    with pytest.raises(ValueError, match="flags 0x03"):
        parse_tx(raw, BITCOIN)


def test_lengths_are_written_in_their_shortest_form() -> None:
    made = MadeTx([In(coin(1))], [Out(1, b"\x51")])
    spot = made.raw.rindex(b"\x01\x51")
    for longer in (b"\xfd\x01\x00", b"\xfe\x01\0\0\0", b"\xff\x01\0\0\0\0\0\0\0"):
        with pytest.raises(ValueError, match="longer than it needs"):
            parse_tx(made.raw[:spot] + longer + made.raw[spot + 1 :], BITCOIN)


def test_litecoins_marks_of_mweb() -> None:
    """Litecoin Core, primitives/transaction.h: flag 8, then a zero for a HogEx or a whole MWEB transaction."""
    hogex = MadeTx([In(coin(1))], [Out(10**15, b"\x58\x20" + bytes(32)), Out(7, p2pkh(1))], mweb=b"")
    tx = parse_tx(hogex.raw, LITECOIN, hogex.id)
    assert (tx.kind, tx.outputs[1]) == (TxKind.HOGEX, Output(7, p2pkh(1)))

    pegin = MadeTx([In(coin(1), witness=[b"sig"])], [Out(5, b"\x59\x20" + bytes(32))], mweb=b"\x07" * 900, lock_time=9)
    tx = parse_tx(pegin.raw, LITECOIN, pegin.id)
    assert (tx.kind, tx.inputs, tx.size) == (TxKind.PLAIN, (coin(1),), len(pegin.raw))

    veiled = MadeTx([], [], mweb=b"\x07" * 900)
    tx = parse_tx(veiled.raw, LITECOIN, "ab" * 32)
    assert (tx.kind, tx.id, tx.inputs, tx.outputs) == (TxKind.VEILED, "ab" * 32, (), ())


def _token(bits: int, rest: bytes = b"") -> bytes:
    return b"\xef" + CATEGORY + bytes((bits,)) + rest


def test_cash_tokens_precede_the_script_and_do_not_hide_it() -> None:
    """CHIP-2022-02: the money is still paid to the script after the prefix."""
    shown = CATEGORY[::-1].hex()
    for prefix in (_token(0x10, b"\x01"), _token(0x22), _token(0x71, b"\x03abc\xfd\x00\x01"), _token(0x60, b"\x01a")):
        assert split_token(prefix + p2pkh(1)) == (shown, p2pkh(1))
    made = MadeTx([In(coin(1))], [Out(800, _token(0x10, b"\xff" + struct.pack("<Q", 2**62)) + p2pkh(1)), Out(5, b"")])
    assert parse_tx(made.raw, BITCOIN_CASH).outputs == (Output(800, p2pkh(1), shown), Output(5, b""))
    assert parse_tx(made.raw, BITCOIN).outputs[0].script == made.outs[0].script


def test_a_broken_token_prefix_is_no_prefix() -> None:
    broken = {
        "reserved bit": _token(0x90, b"\x01"),
        "neither token nor amount": _token(0x00),
        "unknown capability": _token(0x23),
        "capability without a token": _token(0x11, b"\x01"),
        "commitment without a token": _token(0x50, b"\x01a\x01"),
        "empty commitment": _token(0x60, b"\x00"),
        "commitment past the end": _token(0x60, b"\xfc"),
        "no amount": _token(0x10, b"\x00"),
        "too large an amount": _token(0x10, b"\xff" + b"\xff" * 8),
        "amount in a longer form": _token(0x10, b"\xfd\x01\x00"),
        "nothing after the category": b"\xef" + CATEGORY,
    }
    for name, prefix in broken.items():
        tail = b"" if name in ("nothing after the category", "commitment past the end") else p2pkh(1)
        assert split_token(prefix + tail) == (None, prefix + tail), name


@pytest.mark.parametrize("chain", [BITCOIN, LITECOIN], ids=lambda chain: chain.name)
def test_a_transaction_spends_something(chain: Chain) -> None:
    with pytest.raises(ValueError, match=r"ends before|spends nothing|came"):
        parse_tx(b"\2\0\0\0" + compact(0) + compact(0) + b"\0\0\0\0", chain)


def test_a_header() -> None:
    genesis = bytes.fromhex(KNOWN["blocks"][0]["raw"])
    header = parse_header(genesis)
    assert header.hash == "000000000019d6689c085ae165831e934ff763ae46a2a6c172b3f1b60a8ce26f"
    assert (header.parent, header.version) == ("", 1)
    assert header.time.isoformat() == "2009-01-03T18:15:05+00:00"
    assert header.merkle_root == hash256(coinbase_of(genesis))
    with pytest.raises(ValueError, match="80 bytes, not 79"):
        parse_header(genesis[:79])


def coinbase_of(block: bytes) -> bytes:
    """Return the only transaction of a block that has one."""
    return block[81:]


def test_a_coinbase_spends_nothing() -> None:
    made = coinbase(Out(50, p2pkh(1)))
    assert parse_tx(made.raw, BITCOIN).inputs == ()
