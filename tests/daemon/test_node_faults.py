"""Whatever one node's answer makes an adapter raise is that node's fault, and only the seam's three errors come out."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import Any

import pytest
from structlog.testing import capture_logs

from railwatch.conformance import WatchSet
from railwatch.daemon.nodes.node import TEXT_MAX, Node
from railwatch.daemon.nodes.node_set import NodeSet
from railwatch.rail import BadAddress, BlockGone, RailError, RailFault, RailUnavailable, Span
from railwatch_fake import FakeAdapter, FakeChain, FakeNode, address


async def scan(rail: NodeSet) -> object:
    block = await rail.block_at(2)
    return await rail.scan(Span(await rail.block_at(1), block), WatchSet())


METHODS: dict[str, Callable[[NodeSet], Awaitable[Any]]] = {
    "heads": lambda rail: rail.heads(),
    "block_at": lambda rail: rail.block_at(1),
    "scan": scan,
    "pending": lambda rail: rail.pending(WatchSet()),
    "wait_for_change": lambda rail: rail.wait_for_change(),
}

DEFECTS = [
    ValueError("bad \x00\x1b[31m text"),
    KeyError("hash"),
    RecursionError("deep"),
    MemoryError(),
    OverflowError("year 60000"),
    TimeoutError(),
    ExceptionGroup("several", [ValueError("one")]),
    RailError("of no kind"),
]


class Faulty(FakeAdapter):
    """An adapter one of whose methods raises."""

    method = ""
    defect: Exception | None = None

    def __getattribute__(self, name: str) -> Any:
        own = object.__getattribute__(self, "__dict__")
        if name == own.get("method") and own.get("defect") is not None:
            defect = own["defect"]

            async def fail(*_: object, **__: object) -> None:
                raise defect

            return fail
        return super().__getattribute__(name)


def rail_of(count: int, method: str, defect: Exception, faulty: set[int]) -> tuple[FakeChain, NodeSet]:
    chain = FakeChain("faulty")
    chain.mine(3)

    def opened(place: int) -> FakeAdapter:
        adapter = Faulty(FakeNode(chain), chain.chain_id, timeout=0.2, silence=0.2)
        if place in faulty:
            adapter.method, adapter.defect = method, defect
        return adapter

    return chain, NodeSet([Node(f"node-{place}", partial(opened, place)) for place in range(count)])


@pytest.mark.parametrize("defect", DEFECTS, ids=lambda each: type(each).__name__)
@pytest.mark.parametrize("method", METHODS)
async def test_only_the_three_errors_leave_whatever_a_method_raises(method: str, defect: Exception) -> None:
    _, rail = rail_of(1, method, defect, {0})
    async with rail:
        with pytest.raises((RailUnavailable, BlockGone)) as refused:
            await METHODS[method](rail)
    assert str(refused.value).isprintable()
    assert len(str(refused.value)) < TEXT_MAX + 200


async def test_the_trace_of_what_an_adapter_did_not_foresee_is_logged_once_however_often_it_comes() -> None:
    """The adapter's boundary keeps the words out of the reason, so that the trace is all that a person has."""
    chain = FakeChain("faulty")
    chain.mine(3)
    node = FakeNode(chain)
    asked = Node("node-0", lambda: FakeAdapter(node, chain.chain_id, timeout=0.2, silence=0.2))
    adapter = await asked.connect()
    node.breaks = KeyError("hash")
    with capture_logs() as lines:
        for _ in range(3):
            with pytest.raises(RailUnavailable):
                await asked.ask(lambda adapter: adapter.heads())
    assert [line["log_level"] for line in lines if line["event"] == "node.fault"] == ["error"]
    await adapter.__aexit__(None, None, None)


@pytest.mark.parametrize("method", ["heads", "block_at", "scan", "pending"])
@pytest.mark.parametrize("defect", [ValueError("\x00"), RailFault("unreadable \x00")], ids=["defect", "fault"])
async def test_a_node_with_a_fault_is_left_for_one_that_answers(method: str, defect: Exception) -> None:
    _, rail = rail_of(2, method, defect, {0})
    async with rail:
        async with asyncio.timeout(10):
            while rail.answering != "node-1":
                with suppress(RailUnavailable):
                    await METHODS[method](rail)
                await asyncio.sleep(0.01)
        await METHODS[method](rail)


@pytest.mark.parametrize("method", ["block_at", "scan", "pending"])
async def test_a_rail_halts_only_when_every_node_that_answers_reports_the_same(method: str) -> None:
    _, rail = rail_of(2, method, RailFault("unreadable"), {0, 1})
    async with rail:
        with pytest.raises(RailFault, match="unreadable"):
            await METHODS[method](rail)


async def test_a_head_that_cannot_be_read_never_halts_a_rail() -> None:
    _, rail = rail_of(1, "heads", RailFault("a year beyond all years"), {0})
    async with rail:
        for _ in range(3):
            with pytest.raises(RailUnavailable):
                await rail.heads()


@pytest.mark.parametrize("method", ["heads", "__aenter__", "__aexit__"])
async def test_a_secondary_node_with_a_fault_counts_as_unreachable(method: str) -> None:
    chain, rail = rail_of(2, method, ValueError("\x00"), {1})
    async with rail:
        assert (await rail.heads()).latest.hash == chain.tip.hash
        assert rail.answering == "node-0"


async def test_a_node_that_cannot_be_entered_is_skipped_and_reported() -> None:
    _, rail = rail_of(1, "__aenter__", KeyError("result"), {0})
    with pytest.raises(RailUnavailable, match="KeyError"):
        await rail.__aenter__()


async def test_a_defect_in_reading_an_address_refuses_that_address() -> None:
    chain, rail = rail_of(1, "", ValueError(), set())
    text = address.render(chain.new_key())
    assert rail.parse_address(text).text == text
    rail._prototype = type("Broken", (), {"parse_address": lambda _self, _text: 1 / 0})()
    with pytest.raises(BadAddress, match="ZeroDivisionError"):
        rail.parse_address(text)
