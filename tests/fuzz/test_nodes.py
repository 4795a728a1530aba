"""Hostile nodes, for about a minute: the long form is ``make fuzz-nodes ARGS="--minutes 60"``, and says more."""

import pytest

from tests.fuzz.nodes.__main__ import format_report
from tests.fuzz.nodes.chains import chain_of
from tests.fuzz.nodes.run import Fuzzer, fuzz, hostile_nodes

MARKS = {"evm": pytest.mark.anvil, "bitcoin": pytest.mark.bitcoind, "solana": pytest.mark.solana}
EXAMPLES = 25
SEED = 1


@pytest.mark.parametrize("kind", [pytest.param(kind, marks=mark) for kind, mark in MARKS.items()])
async def test_only_the_three_errors_leave_whatever_nodes_answer(kind: str) -> None:
    """Through the daemon's set of three nodes, one or all of them hostile. Times and memory are not compared."""
    async with chain_of(kind) as chain:
        report = await fuzz(chain, SEED, examples=EXAMPLES)
    print(format_report(kind, report))
    assert report.changed > EXAMPLES
    assert report.errors > EXAMPLES
    assert not report.findings, "\n".join(map(str, report.findings))


@pytest.mark.anvil
async def test_the_fuzzer_asks_what_the_daemon_asks_and_finds_what_is_there() -> None:
    """With nothing changed nothing is wrong, and every payment is found: the examples reach the content."""
    async with chain_of("evm") as chain, hostile_nodes(chain.upstream) as ports:
        fuzzer = Fuzzer(chain, ports, strict=True)
        try:
            assert await fuzzer.play("honest", []) == (None, {})
        finally:
            await fuzzer.close()
        assert chain.found == 15
        assert fuzzer.report.found >= chain.found


@pytest.mark.anvil
async def test_a_finding_is_played_again_by_its_seed() -> None:
    """The dice fall by the seed, the question, and how often it was put: the same answers are changed."""
    async with chain_of("evm") as chain, hostile_nodes(chain.upstream) as ports:
        fuzzer = Fuzzer(chain, ports, strict=False)
        try:
            (_, first), (_, again) = await fuzzer.play("1", None), await fuzzer.play("1", None)
        finally:
            await fuzzer.close()
    assert first
    assert first.items() & again.items()
