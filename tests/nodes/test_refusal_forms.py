"""A method that an endpoint does not serve is refused in any form: a missing ability, and never a rail that halts.

HAZARDS B20, S14: statuses with bodies of any kind, errors of any shape, codes that mean something else elsewhere.
"""

import json
import tracemalloc
from collections.abc import Mapping
from typing import Any

import pytest
from aiohttp import web

from railwatch.rail import RailUnavailable, Span
from railwatch.rail.refusals import Refusal, is_refusal, read_refusal, will_pass
from railwatch_bitcoin import create_adapter as open_bitcoin
from railwatch_bitcoin.chains import BITCOIN_REGTEST
from railwatch_bitcoin.mempool import Mempool
from railwatch_bitcoin.options import BitcoinOptions as Settings
from railwatch_bitcoin.rpc import Rpc
from railwatch_bitcoin.zmq_subscriber import ZmqSubscriber
from railwatch_evm.rpc_errors import Meaning, read_error
from railwatch_solana.abilities import INDEX
from railwatch_solana.address import parse_address
from railwatch_solana.methods import METHODS
from tests.nodes import test_bitcoin_abilities as bitcoin
from tests.nodes import test_solana_nodes as solana
from tests.nodes.bitcoin_node import BitcoinNode
from tests.nodes.solana_node import Backend, SolanaEndpoint
from tests.nodes.test_bitcoin_mempool import node_with, waiting

Form = tuple[int, str, Any]
"""Status, content type, body; a text stands for itself."""

JSON, TEXT, HTML = "application/json", "text/plain", "text/html"
FORMS: dict[str, Form] = {
    "401 and nothing": (401, TEXT, ""),
    "401 and a reply": (401, JSON, {"jsonrpc": "2.0", "id": 1, "error": {"code": -32401, "message": "Unauthorized"}}),
    "401 and a message": (401, JSON, {"message": "Unauthorized"}),
    "402": (402, JSON, {"error": "Payment required: upgrade to the Growth plan"}),
    "403 and a message": (403, JSON, {"message": "Forbidden"}),
    "403 and a sentence": (403, JSON, {"error": "method not allowed for this key"}),
    "403 and a reply": (403, TEXT, {"id": 1, "error": {"code": "403", "message": "not available on your plan"}}),
    "404 and a page": (404, HTML, "<html>Cannot POST /</html>"),
    "405": (405, TEXT, "Method Not Allowed"),
    "406": (406, TEXT, ""),
    "410": (410, JSON, {"detail": "gone"}),
    "422": (422, JSON, {"detail": [{"loc": ["body", "method"], "msg": "value is not a valid enumeration member"}]}),
    "451": (451, TEXT, ""),
    "302 to a page of prices": (302, HTML, ""),
    "501": (501, TEXT, ""),
    "a sentence": (200, JSON, {"jsonrpc": "2.0", "id": 1, "error": "This method is not supported"}),
    "an error without a code": (200, JSON, {"id": 1, "error": {"message": "unsupported method"}}),
    "a code that is a text": (200, JSON, {"id": 1, "error": {"code": "-32601", "message": "nope"}}),
    "no reply": (200, JSON, {"success": False, "message": "Method is restricted"}),
    "the code of an error within": (
        200,
        JSON,
        {"id": 1, "error": {"code": -32603, "message": "method is not available on the Free tier, upgrade your plan"}},
    ),
    "the code of a limit": (
        200,
        JSON,
        {"id": 1, "error": {"code": -32005, "message": "This RPC method is not included in your subscription"}},
    ),
    "the code of a limit, about a plan": (
        200,
        JSON,
        {"id": 1, "error": {"code": -32003, "message": "only available on a paid plan"}},
    ),
}


def answer_in(form: Form, calls: Any) -> web.Response:
    """Refuse in one of the forms; a reply names the call that it is for."""
    status, kind, body = form
    if isinstance(body, dict) and "id" in body:
        number = (calls[0] if isinstance(calls, list) else calls)["id"]
        body = {**body, "id": number}
    text = body if isinstance(body, str) else json.dumps(body)
    return web.Response(status=status, text=text, content_type=kind, headers={"Location": "/"} if status == 302 else {})


class RefusingNode(BitcoinNode):
    """A node of the Bitcoin family behind a gateway that refuses some methods, in one form."""

    refused: Mapping[str, Form]

    async def _serve(self, request: web.Request) -> web.Response:
        calls = json.loads(await request.read())
        for call in calls if isinstance(calls, list) else [calls]:
            if call["method"] in self.refused:
                return answer_in(self.refused[call["method"]], calls)
        return await super()._serve(request)


class RefusingEndpoint(SolanaEndpoint):
    """The same for Solana."""

    refused: Mapping[str, Form]

    async def _serve(self, request: web.Request) -> web.Response:
        calls = json.loads(await request.read())
        for call in calls if isinstance(calls, list) else [calls]:
            if call["method"] in self.refused:
                return answer_in(self.refused[call["method"]], calls)
        return await super()._serve(request)


OPTIONAL = ("getblockfilter", "getmempoolinfo", "waitfornewblock", "getpeerinfo", "getblockfrompeer")


@pytest.mark.parametrize("form", FORMS)
async def test_bitcoin_does_without_what_is_refused_in_any_form(form: str) -> None:
    node = RefusingNode(node_with(waiting(40)).methods)
    node.refused = dict.fromkeys(OPTIONAL, FORMS[form])
    async with node, open_bitcoin(bitcoin.SETTINGS, {"rpc": node.url}) as rail:
        assert (await rail.heads()).latest.height == 5
        (transfer,) = await rail.pending(bitcoin.WATCHES)
        assert transfer.amount == 1_003
        served = {each.method: each.served for each in await rail.abilities()}  # type: ignore[attr-defined]
        assert [served[name] for name in OPTIONAL] == [False] * len(OPTIONAL)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("method", ["getrawmempool", "getrawtransaction"])
async def test_bitcoin_without_its_mempool_is_read_by_its_blocks(form: str, method: str) -> None:
    node = RefusingNode(node_with(waiting(40)).methods)
    node.refused = {method: FORMS[form]}
    async with node, open_bitcoin(bitcoin.SETTINGS, {"rpc": node.url}) as rail:
        assert not rail.traits.has_pending
        assert await rail.pending(bitcoin.WATCHES) == []


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("method", ["getTokenAccountsByOwner", "getSignaturesForAddress", "getTransaction", "all"])
async def test_solana_without_an_index_in_any_form_is_read_by_its_blocks(form: str, method: str) -> None:
    """f12; on entering, and when the plan changes later."""
    names = INDEX if method == "all" else (method,)
    endpoint = RefusingEndpoint([Backend(35, paid={6: (solana.SHOP, 5)})])
    endpoint.refused = dict.fromkeys(names, FORMS[form])
    async with endpoint:
        rail = await solana.opened(endpoint)
        served = {each.method: each.served for each in await rail.abilities()}
        assert [served[name] for name in names] == [False] * len(names)
        span = Span(await rail.block_at(0), (await rail.heads()).latest, sparse=True)
        scanned = await rail.scan(span, solana.WATCHES)
        assert (scanned.method, [each.amount for each in scanned.transfers]) == ("blocks", [5])
        await rail.__aexit__(None, None, None)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("batches", [True, False], ids=["batches", "one by one"])
async def test_solana_does_without_all_that_it_can_do_without(form: str, batches: bool) -> None:
    """Its heads too are asked without the node's own word for its health, where that is refused."""
    names = [each.name for each in METHODS if each.fallback and each.name != "slotSubscribe"]
    endpoint = RefusingEndpoint([Backend(35, paid={6: (solana.SHOP, 5)})], takes_batches=batches)
    endpoint.refused = dict.fromkeys(names, FORMS[form])
    async with endpoint:
        rail = await solana.opened(endpoint)
        served = {each.method: each.served for each in await rail.abilities()}
        assert [name for name in names if served[name] is not False] == []
        endpoint.backends[0].slot = 38
        head = (await rail.heads()).latest
        assert head.height == 38
        assert await rail.check_payment(parse_address(solana.SHOP), solana.WATCHES.assets[""], 1, None) is None
        scanned = await rail.scan(Span(await rail.block_at(0), head, sparse=True), solana.WATCHES)
        assert [each.amount for each in scanned.transfers] == [5]
        await rail.__aexit__(None, None, None)


@pytest.mark.parametrize("form", FORMS)
async def test_solana_does_without_an_index_that_is_refused_later(form: str) -> None:
    """A status that locks out may pass; for ever it does not, and blocks are read then."""
    endpoint = RefusingEndpoint([Backend(35, paid={6: (solana.SHOP, 5)})])
    endpoint.refused = {}
    async with endpoint:
        rail = await solana.opened(endpoint)
        endpoint.refused = {"getSignaturesForAddress": FORMS[form]}
        span = Span(await rail.block_at(0), (await rail.heads()).latest, sparse=True)
        for _ in range(6):
            try:
                scanned = await rail.scan(span, solana.WATCHES)
                break
            except RailUnavailable:
                continue
        assert (scanned.method, [each.amount for each in scanned.transfers]) == ("blocks", [5])
        await rail.__aexit__(None, None, None)


@pytest.mark.parametrize("status", [500, 502, 503, 504])
async def test_solana_ends_a_look_back_whose_index_never_answers(status: int) -> None:
    """Such a method cannot be distinguished from one that is unavailable for a while: it is left after a few times."""
    endpoint = SolanaEndpoint([Backend(35, paid={6: (solana.SHOP, 5)})], statuses=dict.fromkeys(INDEX, status))
    async with endpoint:
        rail = await solana.opened(endpoint)
        span = Span(await rail.block_at(0), (await rail.heads()).latest, sparse=True)
        for _ in range(4):
            with pytest.raises(RailUnavailable, match=f"HTTP {status}"):
                await rail.scan(span, solana.WATCHES)
        scanned = await rail.scan(span, solana.WATCHES)
        assert (scanned.method, [each.amount for each in scanned.transfers]) == ("blocks", [5])
        endpoint.statuses.clear()
        assert (await rail.scan(span, solana.WATCHES)).method == "index"
        await rail.__aexit__(None, None, None)


@pytest.mark.parametrize("form", ["401 and nothing", "302 to a page of prices"])
async def test_a_locked_out_client_gets_that_error_and_not_one_of_some_method(form: str) -> None:
    everything = {each.name: FORMS[form] for each in METHODS}
    endpoint = RefusingEndpoint([Backend(35)])
    endpoint.refused = everything
    async with endpoint:
        with pytest.raises(RailUnavailable, match=f"HTTP {form[:3]}") as refused:
            await solana.opened(endpoint)
        assert "which the rail needs" not in str(refused.value)


LATER = [
    (-32005, "Node is behind by 42 slots"),
    (-32603, "Internal error"),
    (-32600, "Account index service overloaded, please try again."),
    (-32429, "rate limited"),
    (-32007, "50/second request limit reached - reduce calls per second or upgrade your account's rate limit"),
    (-32003, "daily request limit reached - upgrade your account to increase it"),
    (0, "Too many requests for a specific RPC call, contact your app developer"),
    (503, "the service is temporarily unavailable"),
]
NEVER = [
    (-32601, "Method not found"),
    (-32601, "try again later"),
    (-32600, "batch too large: too many requests in a batch"),
    (403, "Access forbidden"),
    (-32602, "Invalid params"),
    (-32603, "method getTokenAccountsByOwner is not available on your plan"),
    (-32010, "excluded from account secondary indexes; this RPC method unavailable for key"),
    (0, ""),
]


def test_of_an_error_only_what_is_read_is_built() -> None:
    """A hostile node fills an error with values, each of which would be an object here."""
    body = b'{"code":-32000,"message":"no","data":[' + b'{"a":[]},' * 200_000 + b"{}]}"
    tracemalloc.start()
    try:
        assert read_refusal(body) == Refusal(-32000, "no")
        assert read_error(body, "a node").meaning is Meaning.OTHER
        assert tracemalloc.get_traced_memory()[1] < 4 * len(body)
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(("code", "words"), LATER)
def test_what_passes(code: int, words: str) -> None:
    assert will_pass(Refusal(code, words), frozenset({-32005, -32603, -32429}))


@pytest.mark.parametrize(("code", "words"), NEVER)
def test_what_does_not_pass(code: int, words: str) -> None:
    assert not will_pass(Refusal(code, words), frozenset({-32005, -32603, -32429}))


@pytest.mark.parametrize(
    ("error", "meaning"),
    [
        (b"null", None),
        (b"", None),
        (b'"no"', Refusal(0, "no")),
        (b'{"code":-1,"message":"no"}', Refusal(-1, "no")),
        (b'{"code":"-32000","message":"no"}', Refusal(-32000, "no")),
        (b'{"code":1.5,"message":null,"msg":"no"}', Refusal(0, "no")),
        (b'{"code":"x"}', Refusal(0, "")),
        (b"[1]", Refusal(0, "an error in a form that is none of JSON-RPC")),
        (b"7", Refusal(0, "an error in a form that is none of JSON-RPC")),
        (b"[" * 100_000, Refusal(0, "an error in a form that is none of JSON-RPC")),
    ],
)
def test_an_error_has_any_shape(error: bytes, meaning: Refusal | None) -> None:
    assert read_refusal(error) == meaning


def test_statuses() -> None:
    assert [status for status in (200, 302, 400, 401, 402, 403, 429, 451, 500, 501, 503) if is_refusal(status)] == [
        *(302, 400, 401, 402, 403, 451, 501)
    ]


@pytest.mark.parametrize("form", FORMS)
async def test_zmq_is_heard_where_its_topics_are_refused(form: str) -> None:
    """All topics are subscribed to, and no caller waits for an answer."""
    node = RefusingNode(node_with(waiting(3)).methods)
    node.refused = {"getzmqnotifications": FORMS[form]}
    async with node:
        table = Settings.from_table({"rpc": node.url, "zmq": "tcp://127.0.0.1:1"})
        rpc = Rpc(table)
        await rpc.open()
        publisher = ZmqSubscriber(table, rpc, Mempool(rpc, BITCOIN_REGTEST))
        assert await publisher._topics() == (b"hashblock", b"sequence", b"rawtx")
        await rpc.aclose()
