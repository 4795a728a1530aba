"""Blocks and vectors that any reader can compare with a chain or a specification: they are read to the last byte.

The blocks are those of the chains; `bch_tokens_and_addresses.json` holds the values of BCHN's and libauth's vectors,
`blockfilters.json` those of BIP158.
"""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from railwatch.conformance import WatchSet
from railwatch.rail import AssetId, BlockRef, ChainId
from railwatch_bitcoin import cashaddr
from railwatch_bitcoin.address import parse_address
from railwatch_bitcoin.block import read_block
from railwatch_bitcoin.chains import CHAINS, Chain
from railwatch_bitcoin.filters import match_any
from railwatch_bitcoin.tokens import split_token
from railwatch_solana.address import key_of
from railwatch_solana.decode import DecodeContext, block_transfers
from railwatch_solana.wire import block_decoder

CASES = Path(__file__).parent / "cases" / "btcsol"
NAMES = {"bitcoin_signet": "Bitcoin signet", "bitcoin_testnet4": "Bitcoin testnet4", "dogecoin_mainnet": "Dogecoin"}
NAMES |= {"litecoin_mainnet": "Litecoin", "namecoin_mainnet": "Namecoin"}
SOLANA = ChainId("solana:5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp")


def chain_called(name: str) -> Chain:
    """Return the parameters of a chain."""
    return next(chain for chain in CHAINS if chain.name == name)


def recorded(name: str) -> Any:
    """Return what a file holds."""
    return json.loads((CASES / f"{name}.json").read_text())


@pytest.mark.parametrize("name", sorted(path.stem for path in CASES.glob("*_[0-9]*.json") if "solana" not in path.stem))
def test_a_block_of_the_chain_holds_the_transactions_that_its_node_lists(name: str) -> None:
    """Litecoin's extension block and HogEx, the proofs of merge-mined blocks, witnesses."""
    case = recorded(name)
    raw = bytes.fromhex(case["block"])
    block = read_block(raw, chain_called(NAMES[name.rpartition("_")[0]]), case["hash"])
    assert [block.tx(place).id for place in range(len(block))] == case["tx"]
    assert (block.header.parent, len(raw)) == (case["previousblockhash"], case["size"])


@pytest.mark.parametrize("name", ["dogecoin_mainnet_2264125", "namecoin_mainnet_40000"])
def test_a_merge_mined_block_is_read_to_its_last_byte(name: str) -> None:
    raw = bytes.fromhex((CASES / f"{name}.hex").read_text())
    assert len(read_block(raw, chain_called(NAMES[name.rpartition("_")[0]])))
    with pytest.raises(ValueError, match=r"cannot be read|ends before its time"):
        read_block(raw[:-1], chain_called(NAMES[name.rpartition("_")[0]]))


@pytest.mark.parametrize("row", recorded("blockfilters")[1:], ids=lambda row: str(row[0]))
def test_a_filter_matches_each_script_of_its_block(row: list[Any]) -> None:
    """BIP158: outputs but for those that begin with OP_RETURN, and what the inputs spend."""
    block = read_block(bytes.fromhex(row[2]), chain_called("Bitcoin testnet3"), row[1])
    scripts = [bytes.fromhex(each) for each in row[3]] + [each for each in block.scripts if each[:1] != b"\x6a"]
    content = bytes.fromhex(row[5])
    assert all(match_any(content, row[1], [script]) for script in scripts if script)
    assert not match_any(content, row[1], [b"a script of nobody"])


def test_a_token_before_a_script_is_distinguished_from_similar_bytes() -> None:
    """CHIP-2022-02: every valid prefix is split off, and no other."""
    vectors, script = recorded("bch_tokens_and_addresses"), b"\x51"
    for prefix, category in vectors["valid"]:
        assert split_token(bytes.fromhex(prefix) + script) == (category, script)
    for prefix in vectors["invalid"]:
        assert split_token(bytes.fromhex(prefix)) == (None, bytes.fromhex(prefix))


def test_cashaddr_is_read_and_written_as_its_specification_says() -> None:
    for text, kind, payload in recorded("bch_tokens_and_addresses")["cashaddr"]:
        prefix = text.partition(":")[0]
        if kind > max(cashaddr.CashKind):
            with pytest.raises(ValueError, match="its kind is not defined yet"):
                cashaddr.decode(text, prefix)
            continue
        assert cashaddr.decode(text, prefix) == (cashaddr.CashKind(kind), bytes.fromhex(payload))
        assert cashaddr.encode(prefix, cashaddr.CashKind(kind), bytes.fromhex(payload)) == text


def test_a_long_script_hash_may_be_written_in_the_old_form() -> None:
    """f17: BCHN's key_io_valid.json has P2SH with 32 bytes in Base58 too."""
    address = parse_address("Brc3AngqMnEgM3xi4ANgu1coWvSRwgXvK3uMxidgWALk72ihur", chain_called("Bitcoin Cash"))
    assert address.key.hex() == "aa209597d6599cfcec094a56d68a262f351e1377bd3015f946daf11053301e6501c087"
    with pytest.raises(ValueError, match=r"32 bytes instead of 20|no Bitcoin address"):
        parse_address("Brc3AngqMnEgM3xi4ANgu1coWvSRwgXvK3uMxidgWALk72ihur", chain_called("Bitcoin"))


def keys_of(tx: dict[str, Any]) -> list[str]:
    """Return all accounts of a transaction, those of its lookup tables too, in the order of its balances."""
    keys = [each if isinstance(each, str) else each["pubkey"] for each in tx["transaction"]["message"]["accountKeys"]]
    loaded = tx["meta"].get("loadedAddresses") or {"writable": [], "readonly": []}
    return keys + (loaded["writable"] + loaded["readonly"] if "loadedAddresses" in tx["meta"] else [])


def gains(tx: dict[str, Any]) -> Iterator[tuple[str, str, int]]:
    """Yield (owner, mint or nothing, amount) for what a transaction brought, by the plain rule (HAZARDS S1, S4, S5)."""
    meta = tx["meta"]
    if meta["err"] is not None:
        return
    before, after = meta["preTokenBalances"] or [], meta["postTokenBalances"] or []
    token_accounts = {each["accountIndex"] for each in before + after}
    for place, key in enumerate(keys_of(tx)):
        if place not in token_accounts and meta["postBalances"][place] > meta["preBalances"][place]:
            yield key, "", meta["postBalances"][place] - meta["preBalances"][place]
    totals: dict[tuple[str, str], int] = {}
    for sign, balances in ((-1, before), (1, after)):
        for each in balances:
            name = each["owner"], each["mint"]
            totals[name] = totals.get(name, 0) + sign * int(each["uiTokenAmount"]["amount"])
    yield from ((owner, mint, amount) for (owner, mint), amount in totals.items() if amount > 0)


@pytest.mark.parametrize("name", sorted(path.stem for path in CASES.glob("solana_*.json")))
def test_a_block_of_solana_brings_what_its_balances_say(name: str) -> None:
    """v0 with lookup tables, an account that was closed, one that is new, failed transactions."""
    case = recorded(name)
    expected = [gain for tx in case["transactions"] for gain in gains(tx)]
    owners = {owner for owner, _, _ in expected}
    for tx in case["transactions"]:
        tx["transaction"] = {
            "signatures": tx["transaction"]["signatures"],
            "accountKeys": [{"pubkey": key} for key in keys_of(tx)],
        }
    block = block_decoder.decode(msgspec.json.encode({"result": case})).result
    assert block
    watches = WatchSet(frozenset(key_of(owner) for owner in owners), {"": AssetId(f"{SOLANA}/slip44:501")}, {})
    ref = BlockRef(case["parentSlot"] + 1, case["blockhash"], case["previousBlockhash"], datetime.now(UTC))
    found = block_transfers(block, ref, DecodeContext(SOLANA, "node", watches))
    names = {key_of(owner): owner for owner in owners}
    assert sorted((names[each.to], each.asset.rpartition("token:")[2], each.amount) for each in found) == sorted(
        (owner, mint or f"{SOLANA}/slip44:501", amount) for owner, mint, amount in expected
    )
