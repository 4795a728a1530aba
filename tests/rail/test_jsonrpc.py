"""The JSON-RPC client of every rail, against a gateway that misbehaves."""

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
from aiohttp import web

from railwatch.rail import RailUnavailable
from railwatch.rail.decoding import AnswerTooLarge
from railwatch.rail.jsonrpc import JsonRpcClient, NodeTimeout, RpcRejected
from railwatch.rail.options import HttpOptions
from railwatch.rail.pacing import RequestPace
from railwatch.rail.refusals import Refusal, will_pass
from railwatch.rail.transport import through

numbers = msgspec.json.Decoder(int)


class TinyRejected(RpcRejected):
    """A refusal with its code."""

    def __init__(self, what: str, refusal: Refusal) -> None:
        super().__init__(f"{what}: {refusal.words}")
        self.code = refusal.code
        self.passes = will_pass(refusal, frozenset())


class TinyClient(JsonRpcClient[TinyRejected]):
    """A client as a third party writes it: one method."""

    def rejected(self, what: str, refusal: Refusal) -> TinyRejected:
        return TinyRejected(what, refusal)


def reply(call: dict[str, Any]) -> dict[str, Any]:
    """Double the parameter; refuse the method ``no``."""
    if call["method"] == "no":
        return {"id": call["id"], "error": {"code": -5, "message": "unknown"}}
    return {"id": call["id"], "result": 2 * call["params"][0]}


class Gateway:
    """A node behind a gateway, and the sizes of the requests that came."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.answer: Callable[[Any], web.Response] = self.honest

    def honest(self, asked: Any) -> web.Response:
        """Answer everything."""
        return web.json_response([reply(call) for call in asked] if isinstance(asked, list) else reply(asked))

    async def serve(self, request: web.Request) -> web.Response:
        """Answer as set."""
        asked = json.loads(await request.read())
        self.sizes.append(len(asked) if isinstance(asked, list) else 1)
        return self.answer(asked)


@asynccontextmanager
async def client_of(gateway: Gateway, timeout: float = 5) -> AsyncIterator[TinyClient]:
    """Yield a client of a gateway on loopback."""
    app = web.Application()
    app.router.add_post("/{key:.*}", gateway.serve)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}/secret"
    client = TinyClient("node", url, HttpOptions(), timeout, pace=RequestPace())
    await client.open()
    try:
        yield client
    finally:
        await client.close()
        await runner.cleanup()


CALLS = [("double", (number,)) for number in range(8)]


async def test_a_batch_is_one_request_and_each_response_is_its_own() -> None:
    gateway = Gateway()
    async with client_of(gateway) as client:
        first, refused = await client.batch([("double", (21,)), ("no", ())])
        assert gateway.sizes == [2]
        assert first.read(numbers) == 42
        assert refused.refused
        with pytest.raises(TinyRejected, match="node no: unknown") as caught:
            refused.read(numbers)
        assert (caught.value.code, caught.value.passes) == (-5, False)


async def test_a_refused_batch_is_sent_in_halves_and_the_size_is_remembered() -> None:
    gateway = Gateway()

    def answer(asked: Any) -> web.Response:
        too_many = isinstance(asked, list) and len(asked) > 2
        return web.Response(status=403, text="no more than 2 calls") if too_many else gateway.honest(asked)

    gateway.answer = answer
    async with client_of(gateway) as client:
        assert [response.read(numbers) for response in await client.batch(CALLS)] == [0, 2, 4, 6, 8, 10, 12, 14]
        assert gateway.sizes == [8, 4, 2, 2, 2, 2]
        await client.batch(CALLS)
        assert gateway.sizes[6:] == [2, 2, 2, 2]


async def test_an_endpoint_without_batches_is_asked_one_by_one() -> None:
    gateway = Gateway()
    one = {"error": {"code": -32600, "message": "no batches"}}
    gateway.answer = lambda asked: web.json_response(one) if isinstance(asked, list) else gateway.honest(asked)
    async with client_of(gateway) as client:
        assert [response.read(numbers) for response in await client.batch(CALLS[:4])] == [0, 2, 4, 6]
        assert gateway.sizes == [4, 2, 1, 1, 1, 1]


async def test_what_passes_is_raised_and_teaches_nothing_about_batches() -> None:
    gateway = Gateway()
    gateway.answer = lambda asked: web.Response(status=429, text="slow down")
    async with client_of(gateway) as client:
        with pytest.raises(TinyRejected, match="HTTP 429, slow down") as caught:
            await client.batch(CALLS)
        assert caught.value.passes
        assert gateway.sizes == [8]


async def test_a_missing_reply_is_no_answer() -> None:
    gateway = Gateway()
    gateway.answer = lambda asked: web.json_response([reply(call) for call in asked[1:]])
    async with client_of(gateway) as client:
        with pytest.raises(RailUnavailable, match="1 answers are missing"):
            await client.batch(CALLS)


@pytest.mark.parametrize(
    ("response", "message"),
    [
        (lambda: web.Response(status=502, text="<html>"), "HTTP 502"),
        (lambda: web.Response(text="not JSON"), "wrong shape"),
        (lambda: web.json_response({"message": "plan expired"}), "plan expired"),
        (lambda: web.Response(status=302, headers={"Location": "/login"}), "HTTP 302"),
    ],
)
async def test_what_is_no_reply_is_unavailable(response: Callable[[], web.Response], message: str) -> None:
    gateway = Gateway()
    gateway.answer = lambda asked: response()
    async with client_of(gateway) as client:
        with pytest.raises(RailUnavailable, match=message) as caught:
            await client.call("double", 1)
        assert "secret" not in str(caught.value)


async def test_an_answer_is_bounded_in_bytes_and_time(monkeypatch: pytest.MonkeyPatch) -> None:
    gateway = Gateway()
    gateway.answer = lambda asked: web.Response(text='"' + "a" * 100_000 + '"', content_type="application/json")
    async with client_of(gateway) as client:
        monkeypatch.setattr(client, "bytes_max", lambda methods: 1_000)
        with pytest.raises(AnswerTooLarge, match="larger than 1,000 bytes"):
            await client.call("double", 1)
        with pytest.raises(NodeTimeout, match=r"no answer within 1e-06 s"):
            await client.call("double", 1, timeout=1e-6)


async def test_a_closed_client_says_so() -> None:
    async with client_of(Gateway()) as client:
        await client.close()
        await client.close()
        with pytest.raises(RailUnavailable, match="node: not connected, enter the adapter first"):
            await client.call("double", 1)


async def test_only_the_nodes_timeout_bounds_a_request() -> None:
    """aiohttp's own bound of five minutes would cut a longer one."""
    asked: list[Any] = []

    class Recorded:
        """A transport that keeps the options of each request."""

        def session(self, make: Callable[[], Any]) -> Any:
            return self

        def request(self, method: str, url: str, **options: Any) -> Any:
            asked.append(options["timeout"].total)
            raise OSError

        async def close(self) -> None:
            return

        def websocket(self, url: str, make: Callable[[], Any]) -> Any:
            raise NotImplementedError

        subscriber = websocket

    with through(Recorded()):
        client = TinyClient("node", "http://node/", HttpOptions(), 600, pace=RequestPace())
        await client.open()
    with pytest.raises(RailUnavailable, match="node double: OSError"):
        await client.call("double", 1)
    assert asked == [None]
