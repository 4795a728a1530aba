"""A node that answers anything: only the three errors leave the adapter, and no value of another shape."""

import json
import os
import random
import re
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from aiohttp import web

from railwatch.rail import (
    BlockGone,
    BlockRef,
    RailAdapter,
    RailError,
    RailUnavailable,
    Span,
    SupportsBalances,
    Transfer,
)
from railwatch_evm import create_adapter
from railwatch_evm.dev.simulator import EvmSimulator
from tests.evm.conftest import Chain
from tests.faulty_proxy import Liar

pytestmark = pytest.mark.anvil

SECONDS = float(os.environ.get("RAILWATCH_FUZZ_SECONDS", "10"))
NASTY: list[Any] = [
    None,
    "",
    "0x",
    "0x0",
    "-0x5",
    "0x" + "f" * 64,
    "0x" + "f" * 65,
    "0x1_0",
    "a\0b",
    "\x1b[31m",
    "x" * 6_000,
    "zz" * 20,
    -1,
    0,
    2**64,
    1e308,
    True,
    [],
    {},
    [[]],
    [None],
    {"calls": [{"type": "CALL"}]},
    "0x" + "00" * 32,
    "0x" + "AB" * 32,
    10**30,
]
HASH = re.compile("0x[0-9a-f]{64}")


def mutate(value: Any, dice: random.Random) -> Any:
    """Replace one thing somewhere in a JSON value, or leave it out, or double it."""
    if isinstance(value, dict) and value and dice.random() < 0.9:
        key = dice.choice(sorted(value))
        if dice.random() < 0.1:
            return {name: item for name, item in value.items() if name != key}
        return {**value, key: mutate(value[key], dice)}
    if isinstance(value, list) and value and dice.random() < 0.9:
        place = dice.randrange(len(value))
        changed = (
            [mutate(value[place], dice)] if dice.random() < 0.8 else [] if dice.random() < 0.5 else [value[place]] * 2
        )
        return [*value[:place], *changed, *value[place + 1 :]]
    return dice.choice(NASTY)


class Hostile(Liar):
    """Mutates what anvil says: a value, the envelope, or the bytes."""

    def __init__(self, upstream: str) -> None:
        super().__init__(upstream)
        self.dice = random.Random(0)
        self.rate = 0.0

    async def _serve(self, request: web.Request) -> web.Response:
        response = await super()._serve(request)
        if self.dice.random() > self.rate:
            return response
        assert isinstance(response.body, bytes)
        kind = self.dice.random()
        if kind < 0.9:
            return web.json_response(mutate(json.loads(response.body), self.dice))
        if kind < 0.95:
            return web.Response(body=response.body[: self.dice.randrange(len(response.body))])
        broken = bytearray(response.body)
        broken[self.dice.randrange(len(broken))] = self.dice.randrange(256)
        return web.Response(body=bytes(broken))


def check_ref(ref: BlockRef) -> None:
    """Everything of it can be stored, compared and shown."""
    assert HASH.fullmatch(ref.hash)
    assert ref.parent == "" or HASH.fullmatch(ref.parent)
    assert 0 <= ref.height < 2**63
    assert ref.time < datetime.now(UTC) + timedelta(days=31_000)


def check_transfer(transfer: Transfer) -> None:
    """As `check_ref`."""
    assert HASH.fullmatch(transfer.tx_id)
    assert re.fullmatch(r"tx|log:\d+|call:\d+(\.\d+)*", transfer.tx_index)
    assert 0 < transfer.amount < 2**256 or (transfer.to == b"" and transfer.amount == 0)
    assert json.dumps(transfer.evidence).isprintable()
    assert transfer.block is not None
    check_ref(transfer.block)


async def asked(rail: RailAdapter, chain: Chain, address: str) -> list[Any]:
    """Ask everything that an adapter answers; return the errors."""
    errors: list[Any] = []
    head = await _try(rail.heads(), errors)
    span = chain.whole  # type: ignore[attr-defined]
    watches = chain.watch(address)
    for ref in [head.latest, head.safe, head.finalized] if head else []:
        if ref is not None:
            check_ref(ref)
    ref = await _try(rail.block_at(span.upto.height), errors)
    if ref is not None:
        check_ref(ref)
    for ask in (span, Span(span.after, span.upto, sparse=True), Span(chain.last, span.upto)):  # type: ignore[attr-defined]
        scanned = await _try(rail.scan(ask, watches), errors)
        for transfer in scanned.transfers if scanned else ():
            check_transfer(transfer)
        for block in scanned.blocks if scanned else ():
            check_ref(block)
    assert isinstance(rail, SupportsBalances)
    for asset in chain.sim.assets:
        held = await _try(rail.balances([bytes.fromhex(address[2:])], asset, span.upto), errors)
        assert held is None or all(0 <= amount < 2**256 for amount in held.values())
    return errors


async def _try(question: Any, errors: list[Any]) -> Any:
    try:
        return await question
    except RailError as error:
        errors.append(error)
    return None


def check_error(error: RailError) -> None:
    """Check that an error can be shown and halts nothing: nothing that this node says is proven."""
    assert isinstance(error, RailUnavailable | BlockGone)
    assert str(error).isprintable()
    assert len(str(error)) < 2_000


@pytest.mark.parametrize("seed", [1, 2])
async def test_a_mutated_answer_is_one_of_the_three_errors(sim: EvmSimulator, seed: int) -> None:
    """Each method, with something wrong in one answer of four; and when it is over, everything is as it was."""
    async with Hostile(sim.node["http"]) as liar:
        table = {"http": liar.http, "timeout": 5}
        async with create_adapter(sim.settings, table) as rail:
            chain = Chain(sim, rail, (await rail.heads()).latest)
            address = await sim.new_address()
            for amount in range(1, 4):
                await sim.pay(address, amount)
                await sim.pay_internal(address, 10 * amount)
                await sim.pay(address, 100 * amount, sim.assets[1])
                await sim.mine()
            chain.whole = await chain.span()  # type: ignore[attr-defined]
            chain.last = await rail.block_at(chain.whole.upto.height - 1)  # type: ignore[attr-defined]
            clean = (await rail.scan(chain.whole, chain.watch(address))).transfers  # type: ignore[attr-defined]
            assert len(clean) == 9
            end, rounds = time.monotonic() + SECONDS / 2, 0
            errors: list[Any] = []
            while time.monotonic() < end:
                liar.dice, liar.rate = random.Random(seed * 1_000_000 + rounds), rounds % 2 * 0.25
                rounds += 1
                entered = create_adapter(replace(sim.settings, name=f"rail{rounds}"), table)
                if await _try(entered.__aenter__(), errors) is not None:
                    liar.rate = 0.25
                    errors += await asked(entered, chain, address)
                await entered.__aexit__(None, None, None)
        for error in errors:
            check_error(error)
        assert len(errors) > rounds > 5
        liar.rate = 0.0
        async with create_adapter(sim.settings, table) as rail:
            found = (await rail.scan(chain.whole, chain.watch(address))).transfers  # type: ignore[attr-defined]
            assert list(found) == list(clean)
