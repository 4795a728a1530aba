"""Words of refusal, as real nodes and hosted endpoints send them, and what follows from each."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from railwatch.rail import RailUnavailable
from railwatch.rail.pacing import Batching, Paused, RequestPace, retry_after
from railwatch_evm.options import EvmOptions
from railwatch_evm.rpc import Rpc
from railwatch_evm.rpc_errors import Meaning, RpcRejected, meaning_of, read_error
from railwatch_evm.wire import text_decoder

WORDS = {
    Meaning.MISSING: [
        (-32004, "method debug_traceBlockByHash does not support"),
        (-32000, "the method is not included in your current plan"),
        (-32053, "API key is not allowed to access method"),
        (
            -32002,
            "Archive, Debug and Trace requests are not available on your current plan. See https://docs.example/limits",
        ),
        (-32000, "debug_traceBlockByHash is only available on paid plans"),
        (-32603, "not yet implemented"),
        (-32000, "this request method is not supported"),
        (-32000, "invalid method: trace_block"),
        (-32015, "Method disabled: method trace_block is blocked"),
        (
            -32600,
            "Unsupported method: debug_traceBlockByHash. See available methods at https://docs.example/rate-limits",
        ),
        (-32600, "trace_block is not supported by your plan"),
        (-32601, "the method trace_block does not exist/is not available"),
        (-32601, "Method not found"),
        (-32604, "Method not enabled"),
        (-32600, "The method 'trace_block' is found but the namespace 'Trace' is disabled for http://0.0.0.0:8545."),
        (-32600, "trace_block is not available on the Free tier - upgrade to Pay As You Go, or Enterprise"),
        (-32000, "method not allowed"),
        (0, "rpc method is not whitelisted"),
        (-32000, "tracer not found"),
    ],
    Meaning.PASSING: [
        (-32005, "project ID request rate exceeded"),
        (-32003, "daily request limit reached - upgrade your account to continue"),
        (-32000, "Monthly capacity limit exceeded. Visit https://dashboard.example to upgrade your scaling policy."),
        (-32005, "ran out of cu"),
        (-32005, "You've exceeded the RPS limit available on the current plan."),
        (-32090, "Too many requests, reason: call rate limit exhausted, retry in 10s"),
        (-32005, "limit"),
        (-32000, "the node is under too much load"),
        (12, "Can't route your request to suitable provider, if you specified certain providers revise the list"),
        (19, "Temporary internal error. Please retry, trace-id: 1"),
        (-32000, "You have reached the free tier limit"),
        (-32008, "Initial sync is still in progress"),
        (-32005, "limit exceeded"),
        (-32005, "daily request count exceeded, request rate limited"),
        (429, "Your app has exceeded its compute units per second capacity."),
        (-32016, "over rate limit"),
        (-32029, "Too Many Requests"),
        (-32000, "server is busy, try again later"),
        (-32007, "50/second request limit reached - reduce calls per second or upgrade your account's rate limit"),
    ],
    Meaning.STATELESS: [
        (-32000, "no state found for block number 5"),
        (-32000, "historical state 5f4b is not available"),
        (
            -32000,
            "requested block is too old, block must be within 100000 blocks of the head block number (currently 5)",
        ),
        (4444, "pruned history unavailable: requested 5, earliest available 100"),
        (-32000, "Block with such an ID is pruned; the first retained block is 5"),
        (-32000, "old data not available due to pruning"),
        (-32000, "Archive requests require a paid plan"),
        (-32000, "historical state not available in path scheme yet"),
        (-32000, "required historical state unavailable (reexec=128)"),
        (-32000, "missing trie node 5f4b (path 0a) state 0x5f4b is not available"),
        (-32002, "No state available for block 100 (0xaa...bb)"),
        (-32000, "World state unavailable"),
        (-32000, "state at block #100 is pruned"),
        (4444, "pruned history unavailable"),
        (-32602, "distance to target block exceeds maximum proof window"),
    ],
    Meaning.LARGE: [
        (
            -32602,
            "Log response size exceeded. You can make eth_getLogs requests with up to a 2K block range and no "
            "limit on the response size, or request any block range with a cap of 10K logs in the response. "
            "Based on your parameters and the response size limit, this block range should work: [0x0, 0x133]",
        ),
        (-32000, "response size should not greater than 10485760 bytes"),
        (-32000, "backend response too large"),
        (-32003, "response too large"),
        (-32008, "Response is too big: Exceeded max limit of 26214400"),
        (-32000, "response size exceeded the limit of 25 MB"),
    ],
    Meaning.OTHER: [
        (-32005, "query returned more than 10000 results. Try with this block range [0x1, 0x2]."),
        (-32600, "block range is too wide"),
        (-32000, "exceed maximum block range: 5000"),
        (35, "ranges over 10000 blocks are not supported on freetier"),
        (-32614, "eth_getLogs is limited to a 10,000 range"),
        (-32005, "Requested range exceeds maximum RPC range limit"),
        (-32005, "Number of requests exceeds max batch size"),
        (-32005, "batch size exceed limit 500"),
        (-32600, "Batch requests are not available on the Free plan"),
        (
            -32600,
            "Under the Free tier plan, you can make eth_getLogs requests with up to a 10 block range. Based on your "
            "parameters, this block range should work: [0x0, 0x9]. Upgrade to PAYG for expanded block range.",
        ),
        (-32000, "requested too many blocks from 0 to 5000, maximum is set to 2048"),
        (-32602, "query exceeds max results 20000, retry with the range 1-2"),
        (-32047, "Invalid eth_getLogs request. 'fromBlock'-'toBlock' range too large. Max range: 800"),
        (
            -32602,
            "Block range limit exceeded. See more details at https://docs.example/docs/limits#rate-limits-and-archive",
        ),
        (-32000, "Query timeout exceeded. Consider reducing your block range."),
        (-32602, "exceed max addresses or topics per search position"),
        (-32002, "request timed out"),
        (-32000, "maximum [from, to] blocks distance: 10000"),
        (-32000, "please specify less number of addresses"),
        (-32602, "invalid block range params"),
        (-32000, "unknown block range"),
        (-32005, "query returned more than 10000 results"),
        (-32602, "query exceeds max block range 10"),
        (-32600, "batch too large"),
        (-32000, "batch limit 100 exceeded (can increase by --rpc.batch.limit). Requested batch of size: 101"),
        (-32000, "first run for txIndex 59 error: insufficient funds for gas * price + value"),
        (-32000, "intrinsic gas too low: have 0, want 21000"),
        (-32000, "execution timeout"),
    ],
    Meaning.UNKNOWN: [
        (-32001, "One of the blocks specified in filter (fromBlock, toBlock or blockHash) cannot be found."),
        (-32000, "cannot query unfinalized data"),
        (-32000, "requested block 7 after last accepted block 5"),
        (-32000, "request beyond head block: requested 7, head 5"),
        (-32000, "header for hash not found"),
        (-32000, "hash is not currently canonical"),
        (-32000, "Block with such an ID doesn't exist yet"),
        (-39001, "Unknown block"),
        (-32000, "state at block #7 is not available, block has not been executed yet (latest executed: #5)"),
        (-32000, "receipts not found"),
        (12, "requested a future epoch (beyond 'latest')"),
        (-32000, "requested height 7 is not yet available; safe latest is 5"),
        (-32000, "header not found"),
        (-32000, "unknown block"),
        (-32000, "transaction not found"),
        (-32000, f"block 0x{'ab' * 32} not found"),
        (-32001, "block not found: hash 0xabab"),
        (-32001, "Block 0x10 could not be found"),
        (-32000, "transaction indexing is in progress"),
        (-32000, "block range extends beyond current head block"),
    ],
}


@pytest.mark.parametrize(
    ("code", "words", "meaning"),
    [(code, words, meaning) for meaning, forms in WORDS.items() for code, words in forms],
)
def test_what_a_refusal_means(code: int, words: str, meaning: Meaning) -> None:
    """Only words that mean it disable a method for good, and only words that mean it are waited out."""
    assert meaning_of(code, words) is meaning


@pytest.mark.parametrize(
    "raw",
    [
        '"no"',
        "7",
        "[]",
        '{"code":"-32000","message":7,"data":[]}',
        '{"code":"x"}',
        '{"message":null}',
        "[" * 3000,
        '{"message":"a\\u0000\\u001b[31m"}',
    ],
)
def test_an_error_of_any_shape_is_a_refusal_in_plain_words(raw: str) -> None:
    assert str(read_error(raw.encode(), "node method")).isprintable()


async def test_a_long_pause_is_reported_at_once_and_a_short_one_is_waited_out() -> None:
    pace = RequestPace()
    await pace.turn("node")
    pace.pushed_back("daily request count exceeded", 60)
    with pytest.raises(Paused, match="daily request count exceeded") as caught:
        await pace.turn("node")
    assert 55 < caught.value.pause <= 60
    pace = RequestPace()
    pace.pushed_back("per second", 0.2)
    begun = time.monotonic()
    await pace.turn("node")
    assert 0.1 < time.monotonic() - begun < 2


async def test_an_endpoint_that_never_pushes_back_is_never_slowed() -> None:
    pace = RequestPace()
    begun = time.monotonic()
    for _ in range(5_000):
        await pace.turn("node")
        pace.answered()
    assert pace.rate is None
    assert time.monotonic() - begun < 2


async def test_requests_are_spread_once_an_endpoint_has_pushed_back() -> None:
    """Half of what was too fast, and a little more with each answer."""
    pace = RequestPace()
    for _ in range(100):
        await pace.turn("node")
    pace.pushed_back("too fast", 0.0)
    assert pace.rate == pytest.approx(10, rel=0.2)
    begun = time.monotonic()
    for _ in range(8):
        await pace.turn("node")
        pace.answered()
    assert 0.4 < time.monotonic() - begun < 3
    assert (pace.rate or 0) > 10


def test_retry_after_is_a_number_or_a_date() -> None:
    later = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + 100))
    assert retry_after("7") == 7
    assert 90 < (retry_after(later) or 0) <= 100
    assert retry_after("soon") is retry_after(None) is retry_after("٧") is None


def test_a_batch_that_was_refused_is_tried_larger_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    batching, now = Batching(), time.monotonic()
    batching.refused(4)
    assert batching.size() == 2
    monkeypatch.setattr(time, "monotonic", lambda: now + 700)
    assert batching.size() == 4


@asynccontextmanager
async def endpoint(status: int, body: str, headers: dict[str, str]) -> AsyncIterator[tuple[Rpc, list[float]]]:
    """Yield a gateway that always answers so, and the times of the requests."""
    asked: list[float] = []

    async def answer(request: web.Request) -> web.Response:
        asked.append(time.monotonic())
        return web.Response(status=status, text=body, headers=headers, content_type="application/json")

    app = web.Application()
    app.router.add_post("/", answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    rpc = Rpc(EvmOptions(f"http://127.0.0.1:{runner.addresses[0][1]}/", None, 5, "node"))
    await rpc.open()
    try:
        yield rpc, asked
    finally:
        await rpc.disconnect()
        await runner.cleanup()


ERROR = {"code": -32005, "message": "daily request count exceeded, request rate limited"}
INFURA = {"jsonrpc": "2.0", "id": 1, "error": {**ERROR, "data": {"rate": {"backoff_seconds": 30}}}}


@pytest.mark.parametrize(
    ("status", "body", "headers", "words"),
    [
        (429, json.dumps(INFURA), {}, "daily request count exceeded"),
        (429, json.dumps([INFURA]), {}, "daily request count exceeded"),
        (200, json.dumps(INFURA), {}, "daily request count exceeded"),
        (429, "<html>", {"Retry-After": "30"}, "HTTP 429"),
        (429, "", {"Retry-After": "30"}, "HTTP 429"),
        (503, "{}", {"Retry-After": "30"}, "HTTP 503"),
    ],
)
async def test_a_pause_that_was_asked_for_is_kept(status: int, body: str, headers: dict[str, str], words: str) -> None:
    """It is said why, and nothing is sent meanwhile."""
    calls: list[tuple[str, Any]] = [("eth_chainId", ()), ("eth_blockNumber", ())]
    async with endpoint(status, body, headers) as (rpc, asked):
        for _ in range(3):
            with pytest.raises(RailUnavailable, match=words):
                await rpc.batch(calls)
        assert len(asked) == 1


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (401, '{"message":"Unauthorized"}', "HTTP 401, Unauthorized"),
        (403, '{"jsonrpc":"2.0","id":null,"error":{"code":-32000,"message":"key disabled"}}', "HTTP 403.*key disabled"),
        (403, "<html>", "HTTP 403"),
        (404, "", "HTTP 404"),
        (502, "<html>", "HTTP 502"),
    ],
)
async def test_a_gateway_that_says_no_is_quoted(status: int, body: str, words: str) -> None:
    """Once: a wrong key is not asked about in smaller batches."""
    async with endpoint(status, body, {}) as (rpc, asked):
        with pytest.raises(RailUnavailable, match=words):
            await rpc.batch([("eth_chainId", ()), ("eth_blockNumber", ())])
        assert len(asked) == 1


async def test_a_gateways_own_words_are_no_answer() -> None:
    """With status 200: null would say that the block does not exist."""
    for body, meaning in (
        ('{"message":"API rate limit exceeded"}', Meaning.PASSING),
        ('{"detail":"plan expired"}', Meaning.OTHER),
        ('{"jsonrpc":"2.0","id":null}', Meaning.OTHER),
    ):
        async with endpoint(200, body, {}) as (rpc, _):
            for calls in ([("eth_chainId", ())], [("eth_chainId", ()), ("eth_blockNumber", ())]):
                rpc.endpoint.pace = RequestPace()
                with pytest.raises(RpcRejected, match=r"rate limit|plan expired|node") as caught:
                    await rpc.batch(calls)
                assert caught.value.meaning is meaning


async def test_a_number_that_comes_back_as_text_is_the_same_number() -> None:
    body = '[{"jsonrpc":"2.0","id":"1","result":"0x2"},{"jsonrpc":"2.0","id":"0","result":"0x1"}]'
    async with endpoint(200, body, {}) as (rpc, _):
        answers = await rpc.batch([("eth_chainId", ()), ("eth_blockNumber", ())])
        assert [answer.read(text_decoder) for answer in answers] == ["0x1", "0x2"]


async def test_every_call_may_carry_the_refusal_of_its_batch() -> None:
    error = {"code": -32600, "message": "batch too large, at most 1 call"}
    body = json.dumps([{"jsonrpc": "2.0", "id": number, "error": error} for number in range(2)])
    async with endpoint(200, body, {}) as (rpc, asked):
        with pytest.raises(RailUnavailable):
            await rpc.batch([("eth_chainId", ()), ("eth_blockNumber", ())])
        assert rpc.endpoint.batching.size() == 1
        assert len(asked) == 2


@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_an_address_that_sends_on_is_said_to(status: int) -> None:
    async with endpoint(status, "<html>", {"Location": "https://node.example/key"}) as (rpc, _):
        with pytest.raises(
            RailUnavailable, match=f"HTTP {status}: the endpoint redirects to another address; set http to that one"
        ):
            await rpc.call("eth_chainId")


async def test_waiting_for_a_turn_ends_when_it_is_cancelled() -> None:
    pace = RequestPace()
    pace.pushed_back("slow", 1.5)
    waiting = asyncio.create_task(pace.turn("node"))
    await asyncio.sleep(0.01)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
