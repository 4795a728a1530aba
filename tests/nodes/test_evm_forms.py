"""Forms in which clients, chains and plans give the same: each is read, or refused in words, and none is lost."""

import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

import pytest

from railwatch.rail import BlockGone, RailAdapter, RailUnavailable, Transfer
from railwatch_evm import block_source, create_adapter, tracing
from tests.nodes.played import PlayedNode
from tests.nodes.test_evm_cases import outcome, rail_of, scanned

OURS, PAYER, TOKEN = "0x12" + "ab" * 19, "0x" + "55" * 20, "0x" + "77" * 20
HASH, NEXT, BEFORE, ONE, TWO = ("0x" + byte * 32 for byte in ("bb", "cc", "aa", "1a", "2b"))
ETHER, TRANSFER = 10**18, "0xddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef"
PAID = [["tx", OURS, "native", ETHER], ["log:0", OURS, "erc20:" + TOKEN, 7]]
Lie = Callable[[list[Any], Any], Any]
Opened: TypeAlias = "tuple[RailAdapter, FormNode, dict[str, Any]]"


class Error(Exception):
    """What a node answers in place of a result: a code and words."""


def padded(address: str) -> str:
    """Return an address as a topic."""
    return "0x" + address[2:].rjust(64, "0")


def log(place: int, tx_id: str, contract: str = TOKEN, amount: int = 7) -> dict[str, Any]:
    """Return a Transfer to us."""
    return {
        "address": contract,
        "topics": [TRANSFER, padded(PAYER), padded(OURS)],
        "data": f"0x{amount:064x}",
        "blockHash": HASH,
        "blockNumber": "0x64",
        "transactionHash": tx_id,
        "transactionIndex": hex([ONE, TWO].index(tx_id)),
        "logIndex": hex(place),
    }


def tx(tx_id: str, to: str, value: int, **more: Any) -> dict[str, Any]:
    """Return a transaction of the payer's."""
    nonce = hex([ONE, TWO].index(tx_id))
    return {"hash": tx_id, "from": PAYER, "to": to, "value": hex(value), "nonce": nonce, "type": "0x2", **more}


def case() -> dict[str, Any]:
    """Block 100: one transaction pays ether, another one a token. Block 101 is empty."""
    txs = [tx(ONE, OURS, ETHER), tx(TWO, TOKEN, 0)]
    block = {
        "number": 100,
        "hash": HASH,
        "parent": BEFORE,
        "txs": txs,
        "logs": [log(0, TWO)],
        "tree": [{"txHash": each["hash"], "result": {**each, "type": "CALL"}} for each in txs],
        "flat": [flat(each) for each in txs],
    }
    later = {"number": 101, "hash": NEXT, "parent": HASH, "txs": [], "tree": [], "flat": [], "logs": []}
    return {"chain_id": 1, "watch": [OURS], "tokens": [TOKEN], "node": {}, "blocks": [block, later]}


def flat(each: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Return a transaction's root frame in the flat dialect."""
    action = {"callType": "call", "from": each["from"], "to": each["to"], "value": each["value"]}
    return {
        "type": "call",
        "action": action,
        "traceAddress": [],
        "transactionHash": each["hash"],
        "blockHash": HASH,
        **more,
    }


class FormNode(PlayedNode):
    """A played node, of whose answers ``lies`` change some by method. Receipts of whole blocks are served."""

    def __init__(self, played: dict[str, Any], lies: Mapping[str, Lie]) -> None:
        super().__init__(played)
        self.lies = dict(lies)

    def _reply(self, call: dict[str, Any]) -> str:
        method, params = call["method"], call["params"]
        try:
            if method == "eth_getBlockReceipts":
                self.asked.append(method)
                honest: Any = self._receipts(params[0])
            else:
                reply = json.loads(super()._reply(call))
                if "error" in reply:
                    return json.dumps(reply)
                honest = reply.get("result")
            answer = self.lies.get(method, lambda _, result: result)(params, honest)
        except Error as error:
            code, words = error.args
            return json.dumps({"jsonrpc": "2.0", "id": call["id"], "error": {"code": code, "message": words}})
        return json.dumps({"jsonrpc": "2.0", "id": call["id"], "result": answer})

    def _receipts(self, which: str) -> list[Any] | None:
        for block in self.blocks:
            if which in (block["hash"], hex(block["number"])):
                return [self._receipt(each["hash"]) for each in block["txs"]]
        return None


@asynccontextmanager
async def opened(lies: Mapping[str, Lie] | None = None, **changes: Any) -> AsyncIterator[Opened]:
    """Yield the rail over a node that has this form. ``changes`` are made to the case."""
    played = {**case(), **changes}
    node = FormNode(played, lies or {})
    async with node, create_adapter(rail_of(played), {"http": node.http, "timeout": 5}) as rail:
        yield rail, node, played


def refuse(code: int, words: str) -> Lie:
    """Return a reply that always refuses so."""

    def lie(params: list[Any], result: Any) -> Any:
        raise Error(code, words)

    return lie


@pytest.fixture
def no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make every wait return at once."""
    monkeypatch.setattr(tracing, "PATIENCE", (0.0,))
    monkeypatch.setattr(tracing, "LAGGING", ())
    monkeypatch.setattr(block_source, "PATIENCE", 0.0)


async def found(lies: Mapping[str, Lie] | None = None, **changes: Any) -> list[list[Any]] | str:
    """Return the transfers of block 100, or the error that came instead."""
    async with opened(lies, **changes) as (rail, node, played):
        return await outcome(rail, node, played)


SHAPES: dict[str, dict[str, Lie]] = {
    "as it is": {},
    "fields of a transaction are null": {
        "eth_getBlockByHash": lambda params, block: block and {**block, "transactions": [
            {**each, "gas": None, "type": None, "nonce": None} if params[1] else each for each in block["transactions"]
        ]},
    },
    "removed is null": {"eth_getLogs": lambda _, logs: [{**each, "removed": None} for each in logs]},
    "hashes in upper case": {
        "eth_getBlockByHash": lambda _, block: json.loads(json.dumps(block).replace(ONE, shout(ONE))),
        "eth_getLogs": lambda _, logs: [
            {**each, "blockHash": shout(HASH), "transactionHash": shout(TWO), "topics": [*map(shout, each["topics"])]}
            for each in logs
        ],
        "trace_block": lambda _, frames: [
            {**each, "transactionHash": shout(each["transactionHash"]), "blockHash": shout(HASH)} for each in frames
        ],
    },
    "a contract with its checksum": {
        "eth_getLogs": lambda _, logs: [{**each, "address": shout(each["address"])} for each in logs],
    },
    "a frame moves 0x": {
        "trace_block": lambda _, frames: [*frames, flat({**tx(TWO, OURS, 0), "value": "0x"}, traceAddress=[0])],
    },
    "a frame moves 0x00": {
        "trace_block": lambda _, frames: [*frames, flat({**tx(TWO, OURS, 0), "value": "0x00"}, traceAddress=[0])],
    },
    "a frame has no value": {
        "trace_block": lambda _, frames: [*frames, flat({**tx(TWO, OURS, 0), "value": None}, traceAddress=[0])],
    },
}  # fmt: skip


def shout(text: str) -> str:
    """Hex as some clients write it."""
    return "0x" + text[2:].upper()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("traced", [True, False], ids=["traced", "by value"])
async def test_the_same_block_in_another_form(shape: str, traced: bool) -> None:
    node = {} if traced else {"trace_block": False, "debug_trace": False}
    assert await found(SHAPES[shape], node=node) == PAID


@pytest.mark.parametrize("kind", ["suicide", "selfdestruct"])
async def test_a_contract_that_ends_pays_in_either_word(kind: str) -> None:
    action = {"address": TOKEN, "refundAddress": OURS, "balance": hex(5)}
    ended = {"type": kind, "action": action, "traceAddress": [0], "transactionHash": TWO, "blockHash": HASH}
    lies: dict[str, Lie] = {"trace_block": lambda _, frames: [*frames, ended]}
    assert await found(lies) == [PAID[0], ["call:0", OURS, "native", 5], PAID[1]]


@pytest.mark.parametrize("traced", [True, False], ids=["traced", "by value"])
async def test_null_where_a_list_belongs_is_an_empty_list(traced: bool) -> None:
    """Some write no logs and no frames so; where there should be some, that is noticed as for an empty list (E20)."""
    node = {} if traced else {"trace_block": False, "debug_trace": False}
    lies: dict[str, Lie] = {
        "eth_getLogs": lambda _, logs: logs or None,
        "trace_block": lambda _, frames: frames or None,
    }
    assert await found(lies, node=node) == PAID
    for method in ("eth_getLogs", *(["trace_block"] if traced else [])):
        assert await found({**lies, method: lambda _, each: None}, node=node) == "RailUnavailable"


UNKNOWN = [(-32000, "header not found"), (-32000, "cannot query unfinalized data"), (-39001, "Unknown block")]


@pytest.mark.parametrize(("code", "words"), UNKNOWN)
async def test_a_block_that_is_not_there_is_gone_in_whatever_words(code: int, words: str) -> None:
    """Null, or an error: above the head, and for a block of another branch."""

    def lie(params: list[Any], block: Any) -> Any:
        if block is None:
            raise Error(code, words)
        return block

    async with opened({"eth_getBlockByNumber": lie, "eth_getBlockByHash": lie}) as (rail, node, played):
        with pytest.raises(BlockGone):
            await rail.block_at(500)
        node.blocks[0]["hash"] = "0x" + "dd" * 32
        assert await outcome(rail, node, {**played, "blocks": case()["blocks"]}) != PAID


OWN_NONCE = ["0x64", "0x66", "0x68", "0x69", "0x6a", "0x7e", "0x7f", "0xff", "0xfe", "0x76", "0x7d"]
SENDERS = ["0x0", "0x1", "0x2", "0x3", "0x4", "0x71", "0x7b", "0x7c", None, "0x02"]


@pytest.mark.parametrize("kind", [*OWN_NONCE, *SENDERS])
async def test_only_a_nonce_of_the_sender_is_displaced(kind: str | None) -> None:
    """zkSync's priority operations, an OP deposit, a redeem: their numbers are no account's. Unknown types as well."""

    def lie(params: list[Any], block: Any) -> Any:
        if not block or not params[1]:
            return block
        return {**block, "transactions": [{**each, "type": kind} for each in block["transactions"]]}

    spends = {f"{PAYER}:0": {"0x" + "99" * 32}}
    node = {"trace_block": False, "debug_trace": False}
    async with opened({"eth_getBlockByHash": lie}, node=node, spends=spends) as (rail, played, case_of):
        transfers: list[Transfer] = list((await scanned(rail, played, case_of)).transfers)
    assert bool(transfers[0].rivals) is (kind in SENDERS)


NO_LOGS = {
    "an address is wanted": (-32701, "Please specify an address in your request"),
    "it is not served": (-32601, "the method eth_getLogs does not exist/is not available"),
    "it is limited": (-32614, "eth_getLogs is limited to 0 blocks"),
}


@pytest.mark.parametrize("span", [None, 2], ids=["block", "range"])
@pytest.mark.parametrize("which", NO_LOGS)
async def test_logs_are_read_from_receipts_where_they_are_refused(which: str, span: int | None) -> None:
    changes = {} if span is None else {"span": span}
    lies = {"eth_getLogs": refuse(*NO_LOGS[which])}
    assert await found(lies, **changes) == PAID
    # Receipts by number alone.
    assert await found({**lies, "eth_getBlockReceipts": by_number}, **changes) == PAID
    # One is missing.
    assert await found({**lies, "eth_getBlockReceipts": lambda _, all_of: all_of[:-1]}, **changes) == "RailUnavailable"
    assert await found({**lies, "eth_getBlockReceipts": lambda _, all_of: None}, **changes) == "RailUnavailable"


def by_number(params: list[Any], receipts: Any) -> Any:
    """Accept numbers only."""
    if len(params[0]) > len("0x") + 16:
        raise Error(-32602, "invalid argument 0")
    return receipts


async def test_without_logs_and_receipts_the_method_is_named() -> None:
    """On entering, as `railwatch check` says it too."""
    lies = {"eth_getLogs": refuse(*NO_LOGS["an address is wanted"])}
    lies["eth_getBlockReceipts"] = refuse(-32601, "Method not found")
    with pytest.raises(RailUnavailable, match="does not serve eth_getLogs, which the rail needs"):
        await found(lies)


@pytest.mark.parametrize("span", [None, 2], ids=["block", "range"])
async def test_logs_out_of_order_are_put_in_order(span: int | None) -> None:
    """A gateway merged the answers of several nodes. A log that is there twice is refused all the same."""
    played = case()
    played["blocks"][0]["logs"] = [log(0, ONE), log(1, TWO), log(2, TWO, amount=9)]
    changes = {"blocks": played["blocks"], **({} if span is None else {"span": span})}
    right = [PAID[0], PAID[1], PAID[1], ["log:1", OURS, "erc20:" + TOKEN, 9]]
    for turned in (lambda _, logs: logs[::-1], lambda _, logs: [*logs[1:], *logs[:1]]):
        credits = await found({"eth_getLogs": turned}, **changes)
        assert sorted(credits) == sorted(right)
    assert await found({"eth_getLogs": lambda _, logs: logs[:1] + logs}, **changes) == "RailUnavailable"


@pytest.mark.parametrize("span", [None, 2], ids=["block", "range"])
@pytest.mark.usefixtures("no_patience")
async def test_logs_with_gaps_in_their_numbers_are_read_from_receipts_at_last(span: int | None) -> None:
    """Some chains number logs that they do not show. No log is missing as far as the receipts know."""
    played = case()
    played["blocks"][0]["logs"] = [log(3, ONE), log(7, TWO)]
    changes = {"blocks": played["blocks"], **({} if span is None else {"span": span})}
    async with opened(**changes) as (rail, node, case_of):
        for _ in range(3):  # a range is halved at each try, and only a block by itself is waited for
            answer = await outcome(rail, node, case_of)
        assert sorted(answer) == sorted([PAID[0], PAID[1], PAID[1]])


STEPS = {"gas": 21_000, "failed": False, "returnValue": "", "structLogs": []}
FAULTS: dict[str, dict[str, Lie]] = {
    "none at all": {"trace_block": lambda _, frames: []},
    "null": {"trace_block": lambda _, frames: None},
    "of one transaction": {"trace_block": lambda _, frames: frames[:1]},
    "of the other one": {"trace_block": lambda _, frames: frames[1:]},
    "of one more": {
        "trace_block": lambda _, frames: [
            *frames,
            *({**each, "transactionHash": "0x" + "99" * 32} for each in frames[:1]),
        ]
    },
    "of another form": {"trace_block": lambda _, frames: [{"txHash": ONE, "result": STEPS}]},
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("other", [True, False], ids=["and the other dialect", "and no other dialect"])
async def test_traces_that_are_never_whole_do_not_stop_the_rail(
    fault: str, other: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """First it is waited for them; then the other dialect, each transaction by itself, and its own value at last."""
    node = {"debug_trace": other}
    assert await found(FAULTS[fault], node=node) == "RailUnavailable"
    monkeypatch.setattr(tracing, "PATIENCE", (0.0,))
    monkeypatch.setattr(tracing, "LAGGING", ())
    async with opened(FAULTS[fault], node=node) as (rail, played, case_of):
        assert await outcome(rail, played, case_of) == PAID
        assert rail.traits.native_complete is other
        if not other:
            assert "could not be traced" in rail.traits.native_gap or "refuses both" in rail.traits.native_gap


async def test_transactions_that_a_chain_never_traces_are_waited_for_a_few_times_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """bor lists a state-sync transaction (0x7f) and traces all others: no 60 seconds for each such block."""
    played = case()
    played["blocks"][0]["txs"][1].update(type="0x7f", gas="0x0")
    monkeypatch.setattr(tracing, "PATIENCE", (0.0, 0.0))
    lies = FAULTS["of one transaction"]
    async with opened(lies, blocks=played["blocks"], node={"debug_trace": False}) as (rail, node, case_of):
        for _ in range(3):
            assert await outcome(rail, node, case_of) == PAID
        # Nothing of it can hold calls.
        assert rail.traits.native_complete
        monkeypatch.setattr(tracing, "PATIENCE", (60.0, 60.0))
        assert await outcome(rail, node, case_of) == PAID
        assert await outcome(rail, node, {**case_of, "blocks": case()["blocks"]}) == PAID
        node.lies = FAULTS["of the other one"]
        assert await outcome(rail, node, case_of) == "RailUnavailable"


@pytest.mark.parametrize("form", [STEPS, {"type": 7}, "0x"])
@pytest.mark.usefixtures("no_patience")
async def test_a_tracer_of_another_form_is_no_tracer(form: Any) -> None:
    """An older Besu answers with steps, whatever tracer is asked for: the transactions' own values, and the gap."""
    lies: dict[str, Lie] = {"debug_traceBlockByHash": lambda _, trees: [{**each, "result": form} for each in trees]}
    async with opened(lies, node={"trace_block": False}) as (rail, node, case_of):
        assert await outcome(rail, node, case_of) == PAID
        assert "debug_traceBlockByHash" in rail.traits.native_gap


async def test_a_receipt_without_a_status_pays_no_address_and_stops_nothing() -> None:
    """Before Byzantium nothing shows whether it failed (EIP-658). The gap is reported; the balance shows it."""
    lies: dict[str, Lie] = {
        "eth_getTransactionReceipt": lambda _, receipt: {k: v for k, v in receipt.items() if k != "status"}
    }
    async with opened(lies, node={"trace_block": False, "debug_trace": False}) as (rail, node, case_of):
        assert await outcome(rail, node, case_of) == PAID[1:]
        assert "has no status" in rail.traits.native_gap


CELO = "0x471ece3750da237f93b8e339c536989b8978a438"


@pytest.mark.parametrize("shown", [False, True], ids=["by a precompile", "by a call with a value"])
@pytest.mark.parametrize("way", ["flat", "tree", "none"])
async def test_celo_that_its_token_moves_is_reported_once(shown: bool, way: str) -> None:
    """celo-org/op-geth: the token's transfer() calls the precompile 0xfd, whose call has no value, and logs (E27)."""
    played = case()
    block = played["blocks"][0]
    block["logs"] = [log(0, TWO, CELO, 9)]
    precompile = {"from": CELO, "to": OURS if shown else "0x" + "0" * 38 + "fd", "value": hex(9 if shown else 0)}
    block["flat"].append(flat({**precompile, "hash": TWO}, traceAddress=[0]))
    block["tree"][1]["result"]["calls"] = [{**precompile, "type": "CALL"}]
    node = {"trace_block": way == "flat", "debug_trace": way != "none"}
    name = "call:0" if shown and way != "none" else "log:0"
    for tokens in ([], [TOKEN]):
        credits = await found(chain_id=42220, blocks=played["blocks"], node=node, tokens=tokens, span=2)
        assert credits == [PAID[0], [name, OURS, "native", 9]]
