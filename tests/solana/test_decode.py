"""Balances before and after, and what they mean: blocks written by hand (HAZARDS S1 to S9)."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from railwatch.rail import RailFault, RailUnavailable
from tests.solana.blocks import (
    MINT,
    NATIVE,
    OTHER_MINT,
    PAYER,
    PROGRAM_2022,
    SHOP,
    STRANGER,
    TOKEN,
    credits,
    held,
    transfers_of,
    tx,
)

SYSTEM = "11111111111111111111111111111111"
OURS, AUX = STRANGER, SYSTEM


def test_sol_is_what_an_account_gained() -> None:
    payment = tx([PAYER, SHOP, SYSTEM], [100_000, 7, 1], [44_993, 50_014, 1])
    (transfer,) = transfers_of(payment)
    assert (transfer.tx_id, transfer.tx_index, transfer.asset, transfer.amount) == (
        "signature",
        "account:1",
        NATIVE,
        50_007,
    )
    assert transfer.references == (PAYER, SHOP, SYSTEM)
    assert transfer.evidence["fee_payer"] == PAYER


def test_a_failed_transaction_pays_no_address() -> None:
    """S1: whatever its balances say, and in whatever words it failed."""
    errors: list[Any] = ["AccountInUse", {"InstructionError": [1, {"Custom": 1}]}, {"SomethingNew": {}}]
    for err in errors:
        assert credits(tx([PAYER, SHOP], [100, 0], [40, 50], err=err)) == []


def test_an_account_that_paid_or_only_passed_money_on_got_nothing() -> None:
    """The payer's fee, a payment to oneself, money that goes as it comes, a payment out."""
    assert credits(tx([SHOP, STRANGER], [100_000, 0], [95_000, 0])) == []
    assert credits(tx([PAYER, SHOP], [100_000, 7], [95_000, 7])) == []
    assert credits(tx([PAYER, SHOP], [100_000, 7], [95_003, 4])) == []
    # Who pays the fee and is paid less than it has less than before.
    assert credits(tx([SHOP, PAYER], [100_000, 9_000], [99_000, 5_000])) == []


def test_lamports_of_a_token_account_are_no_payment_of_sol() -> None:
    """S9: its rent, or SOL that is wrapped in it."""
    rent = tx([PAYER, SHOP], [9_000_000, 0], [6_960_720, 2_039_280], post=[held(1, 0, owner=STRANGER)])
    assert credits(rent) == []
    wrapped = tx([PAYER, AUX], [9_000_000, 0], [1, 8_000_000], post=[held(1, 8_000_000, mint=OTHER_MINT)])
    (transfer,) = transfers_of(wrapped)
    assert transfer.asset == TOKEN.replace(MINT, OTHER_MINT)


def test_an_entry_that_is_missing_means_nothing_was_held() -> None:
    """S5: accounts that the transaction made, or closed."""
    keys, same = [PAYER, AUX], [9, 9]
    assert credits(tx(keys, same, same, post=[held(1, 25)])) == [("account:1", TOKEN, 25)]
    assert credits(tx(keys, same, same, pre=[held(1, 25)])) == []
    assert credits(tx(keys, same, same, pre=[held(1, 25)], post=[held(1, 25)])) == []


def test_an_owners_accounts_of_one_mint_are_counted_together() -> None:
    """S6: at whichever of them it arrives; and moving between them is no payment."""
    keys, same = [PAYER, AUX, OURS], [9, 9, 9]
    moved = tx(keys, same, same, pre=[held(1, 30), held(2, 5)], post=[held(1, 0), held(2, 35)])
    assert credits(moved) == []
    both = tx(keys, same, same, pre=[held(1, 30)], post=[held(1, 31), held(2, 5)])
    assert credits(both) == [("account:1", TOKEN, 6)]
    swept = tx(keys, same, same, pre=[held(1, 30)], post=[held(2, 31)])
    assert credits(swept) == [("account:2", TOKEN, 1)]


def test_an_account_that_changes_hands_pays_its_new_owner() -> None:
    keys, same = [PAYER, AUX], [9, 9]
    given = tx(keys, same, same, pre=[held(1, 30, owner=STRANGER)], post=[held(1, 30)])
    assert credits(given) == [("account:1", TOKEN, 30)]
    assert credits(given, watched=[STRANGER]) == []


def test_mints_and_programs_are_kept_apart() -> None:
    """One owner, three holdings; what is not configured has its own name."""
    keys, same = [PAYER, AUX, OURS, STRANGER], [9] * 4
    post = [held(1, 1), held(2, 2, mint=OTHER_MINT), held(3, 4, mint=OTHER_MINT, program=PROGRAM_2022)]
    other = TOKEN.replace(MINT, OTHER_MINT)
    assert credits(tx(keys, same, same, post=post)) == [
        ("account:1", TOKEN, 1),
        ("account:2", other, 2),
        ("account:3", other, 4),
    ]


def test_one_transaction_may_bring_sol_and_tokens_to_several() -> None:
    """In order, each under its own name; and the next transaction after it."""
    batch = tx([PAYER, SHOP, AUX, STRANGER], [99, 0, 9, 0], [49, 20, 9, 30], post=[held(2, 7)])
    second = tx([PAYER, SHOP], [9, 1], [1, 9], signature="second")
    found = transfers_of(batch, second, watched=[SHOP, STRANGER])
    assert [(each.tx_id, each.tx_index, each.amount) for each in found] == [
        ("signature", "account:1", 20),
        ("signature", "account:3", 30),
        ("signature", "account:2", 7),
        ("second", "account:1", 8),
    ]
    assert len({(each.tx_id, each.tx_index) for each in found}) == 4


def test_without_sol_in_the_configuration_only_tokens_are_reported() -> None:
    both = tx([PAYER, SHOP, AUX], [99, 0, 9], [49, 20, 9], post=[held(2, 7)])
    assert [each.asset for each in transfers_of(both, native=False)] == [TOKEN]


def test_amounts_are_exact_beyond_what_a_float_can_hold() -> None:
    """S8: the raw amount, never ``uiAmount``."""
    most = 2**64 - 1
    assert credits(tx([PAYER, AUX], [9, 9], [9, 9], post=[held(1, most)])) == [("account:1", TOKEN, most)]
    assert credits(tx([PAYER, SHOP], [most, 0], [0, most])) == [("account:1", NATIVE, most)]


@pytest.mark.parametrize("amount", ["", "-1", "1.5", "1e3", "0x10", " 1", "1_000", "\u0661"])
def test_what_is_no_amount_halts_the_rail(amount: str) -> None:
    with pytest.raises(RailFault, match="block 7 hash cannot be decoded"):
        transfers_of(tx([PAYER, AUX], [9, 9], [9, 9], post=[held(1, amount)]))


def test_what_cannot_be_read_halts_the_rail_and_names_the_block() -> None:
    """Balances that do not belong to the keys, keys that are none, and an unknown version (S2)."""
    wrong = [
        tx([PAYER, SHOP], [1, 2, 3], [1, 2, 3]),
        tx([PAYER, SHOP], [1, 2], [1]),
        tx([PAYER, "nobody"], [1, 2], [1, 3]),
        tx([PAYER, SHOP, AUX], [1, 2, 9], [1, 3, 9], pre=[{**held(2, 1), "owner": None}]),
        tx([PAYER, SHOP], [1, 2], [1, 2], version=2),
        tx([PAYER, SHOP], [1, 2], [1, 2], version="next"),
    ]
    for each in wrong:
        with pytest.raises(RailFault, match="block 7 hash cannot be decoded"):
            transfers_of(each)


def test_every_version_that_is_known_is_read() -> None:
    for version in ("legacy", 0, 1):
        assert len(transfers_of(tx([PAYER, SHOP], [1, 2], [1, 3], version=version))) == 1


def test_a_node_that_kept_no_balances_is_no_witness() -> None:
    """Another node may have them."""
    with pytest.raises(RailUnavailable, match="kept no balances"):
        transfers_of({**tx([PAYER, SHOP], [1, 2], [1, 3]), "meta": None})


@pytest.mark.parametrize("name", ["a\0b", "\x1b[31m", "x" * 6_000, "\u202e"])
def test_names_that_could_not_be_stored_or_shown_are_the_nodes_fault(name: str) -> None:
    """The signature, an account next to ours, a mint, and a program: nothing of it is proven, so it halts nothing."""
    odd = [
        tx([PAYER, SHOP], [1, 2], [1, 3], signature=name),
        tx([PAYER, SHOP, name], [1, 2, 0], [1, 3, 0]),
        tx([PAYER, AUX], [9, 9], [9, 9], post=[held(1, 5, mint=name)]),
        tx([PAYER, AUX], [9, 9], [9, 9], post=[held(1, 5, program=name)]),
    ]
    for each in odd:
        with pytest.raises(RailUnavailable):
            transfers_of(each)


@pytest.mark.parametrize("amount", [2**64, 10**19 * 2])
def test_more_than_sixty_four_bits_is_no_payment(amount: int) -> None:
    for each in (
        tx([PAYER, AUX], [9, 9], [9, 9], post=[held(1, amount)]),
        tx([PAYER, SHOP], [1, 0], [1, amount]),
        tx([PAYER, AUX], [9, 9], [9, 9], post=[held(2, 5)]),
    ):
        with pytest.raises(RailFault, match="is no payment"):
            transfers_of(each)


@pytest.mark.parametrize(
    "change",
    [
        lambda block: block["transaction"].update(signatures=[]),
        lambda block: block["meta"]["postTokenBalances"].append(held(-1, 5)),
        lambda block: block["meta"]["postTokenBalances"].append(held(65_536, 5)),
        lambda block: block["meta"]["preBalances"].append(-1),
    ],
    ids=["no signature", "an account before the first", "an account beyond all", "a negative balance"],
)
def test_positions_that_no_transaction_has_are_of_the_wrong_shape(change: Callable[[dict[str, Any]], None]) -> None:
    payment = tx([PAYER, SHOP], [1, 2], [1, 3])
    change(payment)
    with pytest.raises(msgspec.ValidationError):
        transfers_of(payment)
