"""The methods that a node serves are probed and reported, on every rail, by `railwatch check`."""

import ast
import io
import json
import re
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from inspect import iscoroutinefunction
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from railwatch.cli.output import jsonable
from railwatch.config import Config
from railwatch.daemon.preview import preview_rail
from railwatch.daemon.registry import create_adapter, named_nodes, open_rail
from railwatch.daemon.supervisor import mirror_settings, rail_mirror
from railwatch.ops.doctor import examine
from railwatch.ops.findings import Daemon, Report, render_report
from railwatch.store.database import Database
from railwatch_bitcoin.chains import BITCOIN_REGTEST
from railwatch_evm.dev.simulator import EvmSimulator
from railwatch_fake import FakeNode, Rules, node_of, register
from tests.bitcoin.build import MadeBlock, Out, coinbase, p2pkh
from tests.nodes.dialects import Dialect, DialectNode, absent
from tests.nodes.solana_node import CHAIN_ID, Backend, Refusal, SolanaEndpoint
from tests.nodes.test_bitcoin_abilities import one_block
from tests.nodes.whitelist import ADAPTERS, RAILS, methods_of, section, written
from tests.scenarios.daemon_harness import chain_named

DEVELOPMENT = {"demo.py"}
"""The files outside ``dev/`` that drive development nodes."""
LOOKS_LIKE = {
    "evm": r"(?:eth|debug|trace|net|web3)_[a-zA-Z]+",
    "bitcoin": r"(?:get|waitfor|send|test|scan|list|decode)[a-z]{5,}",
    "solana": r"(?:get|is|simulate|send|request)[A-Z][A-Za-z]+|[a-z]+Subscribe",
}
"""The form of a string that is a method's name."""


def strings(path: Path) -> set[str]:
    """Every string in the code of a file, and the methods in what is JSON already."""
    constants = (node.value for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Constant))
    found = {
        value if isinstance(value, str) else value.decode(errors="replace")
        for value in constants
        if isinstance(value, str | bytes)
    }
    return found | {method for text in found for method in re.findall(r'"method": ?"(\w+)"', text)}


@pytest.mark.parametrize("rail", LOOKS_LIKE)
def test_the_whitelist_is_what_the_adapter_asks(rail: str) -> None:
    """One way and the other: a method in the code is in the list, and one in the list is in the code."""
    files = [
        path
        for path in (ADAPTERS / f"railwatch_{rail}").glob("*.py")
        if path.name not in DEVELOPMENT | {"methods.py", "abilities.py"} and "__" not in path.name
    ]
    asked = {text for path in files for text in strings(path) if re.fullmatch(LOOKS_LIKE[rail], text)}
    listed = {method.name for method in methods_of(rail)}
    # The beginning of a name identifies a kind of methods, and no node is asked for it.
    beginnings = {text for text in asked - listed if any(method.startswith(text) for method in listed)}
    assert asked - beginnings == listed


@pytest.mark.parametrize("rail", RAILS)
def test_every_rails_readme_carries_its_whitelist(rail: str) -> None:
    """``python -m tests.nodes.whitelist`` writes it."""
    assert written(rail) == section(rail)


def test_what_the_fake_rail_asks_is_in_its_list() -> None:
    """One way and the other."""
    code = (ADAPTERS / "railwatch_fake" / "adapter.py").read_text()
    questions = {name for name, each in vars(FakeNode).items() if iscoroutinefunction(each) and name[0] != "_"}
    asked = {name for name in re.findall(r"node\.([a-z_]+)\b", code) if name in questions}
    assert asked == questions == {method.name for method in methods_of("fake")}


async def checked(rail: Mapping[str, Any], database: Database) -> Report:
    """Return what `railwatch check` finds of this rail, which was never followed."""
    config = Config.model_validate({"database": {"url": database.dsn}, "rail": [rail]})

    def mirror_of(each: Any) -> Any:
        return rail_mirror(config, each, open_rail(each).traits)

    daemon = Daemon(create_adapter, named_nodes, mirror_of, preview_rail, mirror_settings(config))
    return await examine(config, daemon)


def printed(report: Report) -> str:
    """As a person reads it, on a wide terminal."""
    console = Console(width=240, file=io.StringIO(), force_terminal=False)
    console.print(render_report(report))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


ETHER = {"symbol": "ETH"}
FORBIDDEN = "this method is forbidden by your administrator"


@asynccontextmanager
async def evm(refused: frozenset[str]) -> AsyncIterator[dict[str, Any]]:
    """Yield an EVM node in front of anvil."""
    async with EvmSimulator() as sim:
        dialect = Dialect("half", absent(*refused, words="{} is not available on the Free tier", code=-32000))
        async with DialectNode(sim.node["http"], dialect) as node:
            await sim.mine(30)
            yield {
                "adapter": "evm",
                "chain_id": sim.settings.chain_id,
                "nodes": [{"http": node.http}],
                "asset": [ETHER],
            }


@asynccontextmanager
async def bitcoin(refused: frozenset[str]) -> AsyncIterator[dict[str, Any]]:
    """Yield a node of the Bitcoin family whose whitelist leaves them out, so that it answers 403."""
    genesis = BITCOIN_REGTEST.landmarks[0][1]
    made = MadeBlock([coinbase(Out(50, p2pkh(1)))], parent=genesis)
    node = one_block(made.hash, genesis)
    node.methods["getblock"] = lambda *_: made.raw.hex()
    async with node:
        for method in ("getpeerinfo", "getbestblockhash", "waitfornewblock"):
            node.methods.setdefault(method, lambda *_: [])
        node.speech.forbidden = refused
        yield {
            "adapter": "bitcoin",
            "chain_id": BITCOIN_REGTEST.id,
            "nodes": [{"rpc": node.url}],
            "asset": [{"symbol": "BTC"}],
        }


@asynccontextmanager
async def solana(refused: frozenset[str]) -> AsyncIterator[dict[str, Any]]:
    """Yield a Solana node behind a plan."""

    def refuse(*_: Any) -> Any:
        raise Refusal(-32052, FORBIDDEN)

    backend = Backend(35)
    backend.methods["getMultipleAccounts"] = lambda *_: {"context": {"slot": 35}, "value": [None]}
    backend.methods["getAccountInfo"] = lambda *_: {"context": {"slot": 35}, "value": None}
    backend.methods["getMinimumBalanceForRentExemption"] = lambda *_: 890_880
    backend.methods.update(dict.fromkeys(refused, refuse))
    async with SolanaEndpoint([backend]) as endpoint:
        yield {
            "adapter": "solana",
            "chain_id": CHAIN_ID,
            "nodes": [{"http": endpoint.http}],
            "asset": [{"symbol": "SOL"}],
            "stall_after": 0,
            "finality_stall_after": 0,
        }


@asynccontextmanager
async def fake(refused: frozenset[str]) -> AsyncIterator[dict[str, Any]]:
    """Yield the fake rail."""
    chain = register(chain_named("half", Rules(mempool=True, balances=True)))
    chain.mine(3)
    node_of("half").refuses = refused
    yield {
        "adapter": "fake",
        "chain_id": chain.chain_id,
        "nodes": [{"chain": "half"}],
        "asset": [{"symbol": "COIN"}],
    }


FAMILIES: dict[str, Callable[[frozenset[str]], Any]] = {"evm": evm, "bitcoin": bitcoin, "solana": solana, "fake": fake}
SPARED = {"eth_subscribe", "slotSubscribe", "getzmqnotifications", "getbestblockhash"}
"""Asked only where a push is configured."""


@asynccontextmanager
async def rail_with(family: str, refused: frozenset[str]) -> AsyncIterator[dict[str, Any]]:
    async with AsyncExitStack() as stack:
        table = await stack.enter_async_context(FAMILIES[family](refused))
        yield {"name": "half", "stall_after": 0, **table}


@pytest.mark.anvil
@pytest.mark.parametrize("family", FAMILIES)
async def test_check_prints_what_a_node_serves_and_what_is_done_without(family: str, database: Database) -> None:
    """All that has a fall-back is refused, which is half of the methods: the rail can be followed all the same."""
    optional = {method.name for method in methods_of(family) if method.fallback} - SPARED
    if family == "evm":
        optional -= {"eth_getTransactionReceipt", "eth_getLogs"}
    async with rail_with(family, frozenset(optional)) as table:
        report = await checked(table, database)
    assert not report.failed, [each for each in report.findings if each.level == "fail"]
    (node,) = report.nodes
    assert [row.method for row in node.abilities] == [method.name for method in methods_of(family)]
    assert {row.method for row in node.abilities if row.served is False} == optional
    assert len(optional) >= len(node.abilities) // 3
    text = printed(report)
    for row in node.abilities:
        assert row.method in text
        if row.served is False:
            assert row.answer
            assert row.fallback.split(";")[0][:20] in re.sub(r"\s+", " ", text)
            assert row.remedy
    assert json.dumps(jsonable(report.nodes))


@pytest.mark.anvil
@pytest.mark.parametrize("family", FAMILIES)
async def test_what_the_rail_needs_and_the_node_refuses_is_one_sentence(family: str, database: Database) -> None:
    """It names the method and the setting; the table is printed all the same."""
    needed = [method for method in methods_of(family) if not method.fallback]
    for method in needed:
        async with rail_with(family, frozenset({method.name})) as table:
            report = await checked(table, database)
        (failure,) = [each for each in report.findings if each.level == "fail"]
        assert f"does not serve {method.name}, which the rail needs: {method.remedy}" in failure.text
        (node,) = report.nodes
        assert {row.method for row in node.abilities if row.served is False} >= {method.name}


@pytest.mark.anvil
async def test_receipts_of_a_whole_block_replace_those_of_a_transaction(database: Database) -> None:
    """Without both, and without traces, no answer shows whether a payment failed: the node is refused by name."""
    traces = {"trace_block", "debug_traceBlockByHash", "debug_traceTransaction", "trace_transaction"}
    async with rail_with("evm", frozenset({"eth_getTransactionReceipt", *traces})) as table:
        report = await checked(table, database)
        assert not report.failed, report.findings
    both = {"eth_getTransactionReceipt", "eth_getBlockReceipts", *traces}
    async with rail_with("evm", frozenset(both)) as table:
        report = await checked(table, database)
        assert "does not serve eth_getTransactionReceipt, which the rail needs" in report.findings[-1].text


@pytest.mark.anvil
async def test_an_order_is_paid_over_a_node_that_refuses_half(database: Database) -> None:
    """By the transactions' own values and the receipts of whole blocks."""
    from railwatch.conformance import WatchSet
    from railwatch.rail import Span

    refused = {method.name for method in methods_of("evm") if method.fallback} - {"eth_getBlockReceipts"}
    async with EvmSimulator() as sim:
        dialect = Dialect("half", absent(*refused))
        async with DialectNode(sim.node["http"], dialect) as front:
            from railwatch_evm import create_adapter as open_evm

            async with open_evm(sim.settings, {"http": front.http}) as rail:
                start = (await rail.heads()).latest
                address = await sim.new_address()
                await sim.pay(address, 5)
                await sim.mine(2)
                watches = WatchSet(frozenset({rail.parse_address(address).key}), {"": sim.native})
                for sparse in (False, True):
                    span = Span(start, (await rail.heads()).latest, sparse=sparse)
                    assert [each.amount for each in (await rail.scan(span, watches)).transfers] == [5]
            asked = set(front.asked)
    assert asked <= {method.name for method in methods_of("evm")}
    assert "eth_getBlockReceipts" in asked
