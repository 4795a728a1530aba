"""The pure parts, on content that no development node produces."""

import sys
import tracemalloc
from typing import Any

import msgspec
import pytest
from eth_hash.auto import keccak
from hypothesis import given
from hypothesis import strategies as st

from railwatch.conformance import WatchSet
from railwatch.rail import AssetId, ChainId, NotYet, RailUnavailable
from railwatch.rail.decoding import AnswerTooLarge, nesting
from railwatch_evm import traces
from railwatch_evm.bloom import bloom_of, mask, may_hold
from railwatch_evm.decode import PADDING, TRANSFER, DecodeContext, token_transfers
from railwatch_evm.fold import fold
from railwatch_evm.integrity import check_logs
from railwatch_evm.native import traced_transfers
from railwatch_evm.scan import batch_sizer
from railwatch_evm.traces import CallFrame, credits, flatten
from railwatch_evm.wire import Header, Log, block_ref

CHAIN = ChainId("eip155:1")
OURS = bytes.fromhex("ab" * 20)
LENS = DecodeContext(CHAIN, "http://node", WatchSet(frozenset({OURS}), {"": AssetId("eip155:1/slip44:60")}))


ONE, TWO = "0x" + "01" * 32, "0x" + "02" * 32
HASH, PARENT, TIME = "0x" + "b1" * 32, "0x" + "b0" * 32, hex(1_700_000_000)
TOKEN = "0x" + "22" * 20
FACES = ["0xfffffffffffffffffffffffffffffffffffffffe", "0x0000000000000000000000000000000000001010"]


def log(address: str = TOKEN, place: int = 0, tx_id: str = ONE, amount: int = 5) -> Log:
    """Return a Transfer to us."""
    topics = [TRANSFER, PADDING + "cd" * 20, PADDING + OURS.hex()]
    return Log(address, topics, f"0x{amount:064x}", HASH, "0x1", tx_id, "0x0", hex(place))


def header(bloom: str = "0x0") -> Header:
    """Return a block with one transaction."""
    return Header("0x1", HASH, PARENT, TIME, bloom, [ONE])


BLOCK = block_ref(header())


@pytest.mark.parametrize("face", [*FACES, FACES[0].upper().replace("0X", "0x")])
def test_ethers_own_logs_are_never_a_token(face: str) -> None:
    """E5, E27: they log what the trace says already, in any spelling; a removed log says nothing (E12)."""
    removed = msgspec.structs.replace(log("0x" + "11" * 20, 1), removed=True)
    other = log("0x" + "22" * 20, 2)
    placed = token_transfers([log(face), removed, other], {HASH: BLOCK}, LENS)
    assert [transfer.asset for _, transfer in placed] == [f"{CHAIN}/erc20:0x{'22' * 20}"]
    # They still count for the place within the receipt, which is the chain's own affair.
    assert placed[0][1].tx_index == "log:2"


def test_places_start_anew_in_each_transaction() -> None:
    """The position is the receipt's, whatever the block's index is."""
    logs = [log(TOKEN, 7, ONE), log(TOKEN, 8, TWO), log(TOKEN, 9, TWO)]
    placed = token_transfers(logs, {HASH: BLOCK}, LENS)
    assert [(transfer.tx_id, transfer.tx_index) for _, transfer in placed] == [
        (ONE, "log:0"),
        (TWO, "log:0"),
        (TWO, "log:1"),
    ]


def test_a_gap_between_logs_is_noticed() -> None:
    """E20: a bloom does not show that a log is missing if it repeats another; the block-wide index does."""
    block = header(hex(bloom_of([bytes.fromhex(TOKEN[2:])])))
    for places in ((0, 2), (1, 2), (0, 1, 3)):
        with pytest.raises(RailUnavailable, match="logs are missing"):
            check_logs({HASH: block}, [log(TOKEN, place) for place in places])
    # How some chains append the logs of their system's transaction.
    appended = [log(TOKEN, 0), log(TOKEN, 1), log(TOKEN, 0, "0x" + "ab" * 32)]
    assert check_logs({HASH: block}, appended) == []
    with pytest.raises(NotYet, match="a log is listed twice"):
        check_logs({HASH: block}, [log(TOKEN, place) for place in (0, 1, 0)])
    assert check_logs({HASH: block}, []) == [HASH]


def frame(kind: str, *calls: CallFrame, to: bytes = OURS, value: int = 1, error: str | None = None) -> CallFrame:
    """Return a frame of callTracer."""
    return CallFrame(kind, "0x" + "cd" * 20, "0x" + to.hex(), hex(value), error, None, list(calls))


def credited(root: CallFrame) -> list[tuple[tuple[int, ...], int]]:
    """Paths and amounts of what reaches us."""
    found = credits(flatten([(ONE, root)], [], "node"), LENS.watches.hits)
    return [(credit.path, credit.amount) for credit in found]


@pytest.mark.parametrize("kind", ["CALL", "CREATE", "CREATE2", "SELFDESTRUCT"])
def test_frames_that_move_value(kind: str) -> None:
    """E4, the other way around."""
    assert credited(frame("CALL", frame(kind), value=0)) == [((0,), 1)]


@pytest.mark.parametrize("kind", ["DELEGATECALL", "CALLCODE", "STATICCALL", "AUTHCALL?", "STOP"])
def test_frames_that_only_seem_to(kind: str) -> None:
    """E4: they name a value, and nothing arrives. An unknown kind is not trusted with money."""
    assert credited(frame("CALL", frame(kind), value=0)) == []


def test_an_error_reaches_all_descendants_and_no_other() -> None:
    """E3: at any depth, and siblings are not touched. What failed has no number (E28)."""
    failing = frame("CALL", frame("CALL", frame("CALL")), error="execution reverted")
    assert credited(frame("CALL", failing, frame("CALL", value=2), value=0)) == [((0,), 2)]
    assert credited(frame("CALL", frame("CALL"), error="out of gas")) == []


def test_a_revert_reason_is_an_error() -> None:
    """ZK Stack chains leave the error of a frame that reverted empty."""
    failing = msgspec.structs.replace(frame("Call", frame("call")), revert_reason="")
    assert credited(frame("call", failing, frame("call", value=2), value=0)) == [((0,), 2)]


STRANGER = (0xABCDEF << 80).to_bytes(20)
SHOWN_BY_SOME = {
    "a precompile": frame("STATICCALL", to=(2).to_bytes(20), value=0),
    "a precompile called": frame("CALL", to=(4).to_bytes(20), value=0),
    "a call without value": frame("CALL", to=STRANGER, value=0),
    "a call that could not pay": frame("CALL", to=STRANGER, value=5, error="insufficient balance for transfer"),
    "a call too deep": frame("CALL", to=STRANGER, value=5, error="max call depth exceeded"),
    "a creation that failed": frame("CREATE", to=STRANGER, value=5, error="contract address collision"),
    "an empty destruction": frame("SELFDESTRUCT", to=STRANGER, value=0),
    "a payment to itself": frame("CALL", to=bytes.fromhex("cd" * 20), value=5),
    "a delegation": frame("DELEGATECALL", to=STRANGER, value=5),
}


@pytest.mark.parametrize("shown", SHOWN_BY_SOME)
def test_a_payment_has_one_name_whatever_else_a_client_shows(shown: str) -> None:
    """E28: only frames that moved value and held have a number; else a rescan at another node counts twice."""
    extra = SHOWN_BY_SOME[shown]
    pays = frame("CALL", to=STRANGER, value=3)
    with_it = frame("CALL", extra, pays, frame("CALL", extra, frame("CALL"), value=0), extra, frame("CALL"), value=0)
    without = frame("CALL", pays, frame("CALL", frame("CALL"), value=0), frame("CALL"), value=0)
    assert credited(with_it) == credited(without) == [((1, 0), 1), ((2,), 1)]


def test_block_rewards_and_withdrawals_are_no_transactions() -> None:
    """E14: nodes that trace rewards give them no transaction; they show in the balances."""
    reward = {"author": "0x" + OURS.hex(), "rewardType": "block", "value": "0x5"}
    raw = msgspec.json.encode([{"action": reward, "type": "reward", "traceAddress": [], "transactionHash": None}])
    assert credits(traces.trace_items.many.decode(raw), LENS.watches.hits) == []


def test_a_deep_tree_is_walked() -> None:
    """The EVM allows 1,024 calls within calls, which is more than Python does."""
    root = frame("CALL")
    for _ in range(5000):
        root = frame("CALL", root, value=0)
    assert credited(root) == [((0,) * 5000, 1)]


def test_places_are_written_out_only_for_what_matters() -> None:
    """A thousand calls deep each place has a thousand numbers, and a stranger can make calls there by the thousand."""
    leaves = [frame("STATICCALL"), frame("CALL", value=0), frame("DELEGATECALL"), frame("CALL", error="out of gas")]
    root = frame("CALL", *leaves * 10_000, frame("CALL"), value=0)
    for _ in range(1_000):
        root = frame("CALL", root, value=0)
    tracemalloc.start()
    try:
        assert credited(root) == [((0,) * 1_001, 1)]
        assert tracemalloc.get_traced_memory()[1] < 32_000_000
    finally:
        tracemalloc.stop()


async def test_a_frame_of_another_transaction_is_the_nodes_fault() -> None:
    """The block has no such transaction: the frame belongs to another block, or to none."""
    frames = flatten([(TWO, frame("CALL"))], [], "node")
    with pytest.raises(RailUnavailable, match=f"block {HASH}: a trace of {TWO}, which is not in it"):
        await traced_transfers(frames, [ONE], BLOCK, AssetId("eip155:1/slip44:60"), LENS)


def test_more_places_than_any_block_has_are_refused() -> None:
    root = frame("CALL", *[frame("CALL")] * 10_000, value=0)
    for _ in range(1_000):
        root = frame("CALL", root, value=0)
    with pytest.raises(AnswerTooLarge, match="too deep"):
        credited(root)


def test_a_deep_tree_is_folded_and_put_together_again() -> None:
    """Deeper than a decoder's recursion may go: in pieces, in the same order, under the same names."""
    inner = frame("CALL")
    for step in range(1_023):
        inner = frame("CALL", frame("STATICCALL"), inner, frame("CALL", value=step + 2), value=0)
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(20_000)
    try:
        raw = msgspec.json.encode([{"id": 1, "result": msgspec.to_builtins(inner)}])
    finally:
        sys.setrecursionlimit(limit)
    outer, folded = fold(raw, "node")
    assert len(folded.pieces) > 5
    assert all(nesting(piece) < 300 for piece in (outer, *folded.pieces))
    item = msgspec.json.decode(outer, type=list[dict[str, Any]])[0]["result"]
    frames = flatten([(ONE, msgspec.convert(item, CallFrame))], folded.pieces, "node")
    whole = flatten([(ONE, inner)], [], "node")
    assert [(trace.trace_address, trace.action.value) for trace in frames] == [
        (trace.trace_address, trace.action.value) for trace in whole
    ]


@pytest.mark.parametrize("raw", [b"[" * 900, b"[" * 900 + b"]" * 300, b'{"a":["' + b"[" * 600])
def test_broken_json_is_folded_into_something_that_is_refused(raw: bytes) -> None:
    """Whatever a node sends: an answer of the wrong shape, or one that says so."""
    with pytest.raises((RailUnavailable, msgspec.DecodeError)):
        msgspec.json.decode(fold(raw, "node")[0])


@given(st.lists(st.binary(min_size=20, max_size=32), max_size=30), st.binary(min_size=20, max_size=32))
def test_a_bloom_has_no_false_negatives(items: list[bytes], other: bytes) -> None:
    """What is in it is never denied, and an empty one denies everything."""
    bloom = hex(bloom_of(items))
    assert all(may_hold(bloom, [mask(item)]) for item in items)
    assert not may_hold("0x0", [mask(other)])
    assert mask(other).bit_count() <= 3
    assert mask(other) & (1 << int.from_bytes(keccak(other)[:2], "big") % 2048)


@pytest.mark.parametrize(
    ("number", "time"),
    [("0xzz", TIME), ("0x1", "0x5"), ("0x1", "0x" + "f" * 30), ("-0x1", TIME), ("0x" + "f" * 64, TIME)],
)
def test_a_block_whose_numbers_are_none_is_the_nodes_fault(number: str, time: str) -> None:
    """By its hash, so that an operator can inspect it; a head is proven by nothing, so no rail halts for it."""
    with pytest.raises(RailUnavailable, match=HASH):
        block_ref(Header(number, HASH, PARENT, time, "0x0", []))


def test_a_genesis_block_has_no_parent_and_may_have_no_time() -> None:
    """Ethereum's has the time 0."""
    genesis = block_ref(Header("0x0", HASH, "0x" + "00" * 32, "0x0", "0x0", []))
    assert genesis.parent == ""


def test_the_stride_grows_fast_and_after_a_refusal_slowly() -> None:
    """Additive increase, multiplicative decrease (DESIGN, "Ask for less")."""
    stride = batch_sizer()
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
