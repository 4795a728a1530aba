"""The pure parts, on content that no development node produces."""

import msgspec
import pytest
from eth_hash.auto import keccak
from hypothesis import given
from hypothesis import strategies as st

from adapters.evm import traces
from adapters.evm.bloom import bloom_of, mask, may_hold
from adapters.evm.decode import ETHER_LOGGER, PADDING, TRANSFER, Lens, token_transfers
from adapters.evm.scan import Stride
from adapters.evm.traces import CallFrame, TracedTransaction, credits, flatten
from adapters.evm.whole import check_logs
from adapters.evm.wire import Header, Log, block_ref
from indexer.conformance import WatchSet
from indexer.rail import AssetId, ChainId, RailFault, RailUnavailable

CHAIN = ChainId("eip155:1")
OURS = bytes.fromhex("ab" * 20)
LENS = Lens(CHAIN, "http://node", WatchSet(frozenset({OURS}), {"": AssetId("eip155:1/slip44:60")}))


def log(address: str, place: int = 0, tx_id: str = "0x01", amount: int = 5) -> Log:
    """A Transfer to us."""
    topics = [TRANSFER, PADDING + "cd" * 20, PADDING + OURS.hex()]
    return Log(address, topics, f"0x{amount:064x}", "0xb1", "0x1", tx_id, "0x0", hex(place))


BLOCK = block_ref(Header("0x1", "0xb1", "0xb0", "0x5", "0x0", ["0x01"]))


def test_ethers_own_logs_are_never_a_token() -> None:
    """E5: EIP-7708 logs what the trace says already; a removed log says nothing (E12)."""
    removed = msgspec.structs.replace(log("0x" + "11" * 20, 1), removed=True)
    other = log("0x" + "22" * 20, 2)
    placed = token_transfers([log(ETHER_LOGGER), removed, other], {"0xb1": BLOCK}, LENS)
    assert [transfer.asset for _, transfer in placed] == [f"{CHAIN}/erc20:0x{'22' * 20}"]
    # They still count for the place within the receipt, which is the chain's own affair.
    assert placed[0][1].tx_index == "log:2"


def test_places_start_anew_in_each_transaction() -> None:
    """The position is the receipt's, whatever the block's index is."""
    logs = [log("0x22", 7, "0x01"), log("0x22", 8, "0x02"), log("0x22", 9, "0x02")]
    placed = token_transfers(logs, {"0xb1": BLOCK}, LENS)
    assert [(transfer.tx_id, transfer.tx_index) for _, transfer in placed] == [
        ("0x01", "log:0"),
        ("0x02", "log:0"),
        ("0x02", "log:1"),
    ]


def test_a_gap_between_logs_is_noticed() -> None:
    """E20: a bloom cannot tell if the missing log repeats another; the block-wide index can."""
    header = Header("0x1", "0xb1", "0xb0", "0x5", hex(bloom_of([bytes.fromhex("22" * 20)])), ["0x01"])
    for places in ((0, 2), (1, 2), (0, 1, 3)):
        with pytest.raises(RailUnavailable, match="logs are missing"):
            check_logs({"0xb1": header}, [log("0x22", place) for place in places])
    assert check_logs({"0xb1": header}, [log("0x22", place) for place in (0, 1, 0)]) == []
    assert check_logs({"0xb1": header}, []) == ["0xb1"]


def frame(kind: str, *calls: CallFrame, to: bytes = OURS, value: int = 1, error: str | None = None) -> CallFrame:
    """A frame of callTracer."""
    return CallFrame(kind, "0x" + "cd" * 20, "0x" + to.hex(), hex(value), error, list(calls))


def credited(root: CallFrame) -> list[tuple[tuple[int, ...], int]]:
    """Paths and amounts of what reaches us."""
    found = credits(flatten([TracedTransaction(root)], ["0x01"]), LENS.watches.hits)
    return [(credit.path, credit.amount) for credit in found]


@pytest.mark.parametrize("kind", ["CALL", "CREATE", "CREATE2", "SELFDESTRUCT"])
def test_frames_that_move_value(kind: str) -> None:
    """E4, the other way around."""
    assert credited(frame("CALL", frame(kind), value=0)) == [((0,), 1)]


@pytest.mark.parametrize("kind", ["DELEGATECALL", "CALLCODE", "STATICCALL", "AUTHCALL?", "STOP"])
def test_frames_that_only_seem_to(kind: str) -> None:
    """E4: they name a value, and nothing arrives. A kind that nobody knows yet is not trusted with money."""
    assert credited(frame("CALL", frame(kind), value=0)) == []


def test_an_error_reaches_all_descendants_and_nobody_else() -> None:
    """E3: at any depth, and siblings are not touched."""
    failing = frame("CALL", frame("CALL", frame("CALL")), error="execution reverted")
    assert credited(frame("CALL", failing, frame("CALL", value=2), value=0)) == [((1,), 2)]
    assert credited(frame("CALL", frame("CALL"), error="out of gas")) == []


def test_calls_of_precompiles_have_no_number_unless_they_move_value() -> None:
    """One name for a credit, on nodes that give such frames and on nodes that leave them out."""
    idle = frame("STATICCALL", to=(2).to_bytes(20), value=0)
    with_idle = frame("CALL", idle, frame("CALL", idle, frame("CALL"), value=0), value=0)
    without = frame("CALL", frame("CALL", frame("CALL"), value=0), value=0)
    assert credited(with_idle) == credited(without) == [((0, 0), 1)]


def test_block_rewards_and_withdrawals_are_no_transactions() -> None:
    """E14: nodes that trace rewards give them no transaction; they show in the balances."""
    reward = {"author": "0x" + OURS.hex(), "rewardType": "block", "value": "0x5"}
    raw = msgspec.json.encode([{"action": reward, "type": "reward", "traceAddress": [], "transactionHash": None}])
    assert list(credits(traces.traces_decoder.decode(raw) or [], LENS.watches.hits)) == []


def test_a_deep_tree_is_walked() -> None:
    """The EVM allows 1,024 calls within calls, which is more than Python does."""
    root = frame("CALL")
    for _ in range(5000):
        root = frame("CALL", root, value=0)
    assert credited(root) == [((0,) * 5000, 1)]


@given(st.lists(st.binary(min_size=20, max_size=32), max_size=30), st.binary(min_size=20, max_size=32))
def test_a_bloom_has_no_false_negatives(items: list[bytes], other: bytes) -> None:
    """What is in it is never denied, and an empty one denies everything."""
    bloom = hex(bloom_of(items))
    assert all(may_hold(bloom, [mask(item)]) for item in items)
    assert not may_hold("0x0", [mask(other)])
    assert mask(other).bit_count() <= 3
    assert mask(other) & (1 << int.from_bytes(keccak(other)[:2], "big") % 2048)


def test_a_block_whose_numbers_are_none_is_a_fault() -> None:
    """By its hash, so that an operator can look at it."""
    with pytest.raises(RailFault, match="0xb1"):
        block_ref(Header("0xzz", "0xb1", "0xb0", "0x5", "0x0", []))
    genesis = block_ref(Header("0x0", "0xb1", "0x" + "00" * 32, "0x5", "0x0", []))
    assert genesis.parent == ""


def test_the_stride_grows_fast_and_after_a_refusal_slowly() -> None:
    """Additive increase, multiplicative decrease (DESIGN, "Ask for less")."""
    stride = Stride()
    for width in (32, 64, 128, 128):
        assert stride.width == width
        stride.answered(width, 1000)
    stride.refused(128)
    assert stride.width == 64
    stride.answered(64, 1000)
    assert stride.width == 72
    stride.answered(72, 10**8)
    assert stride.width == 36
    for _ in range(10):
        stride.refused(1)
    assert stride.width == 1
    stride.answered(1, 1000)
    assert stride.width == 2
