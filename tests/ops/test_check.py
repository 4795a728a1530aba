"""`railwatch check` never says yes where `railwatch run` says no: both are tried on the same trouble, one by one."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from railwatch.config import Config
from railwatch.daemon.preview import preview_rail
from railwatch.daemon.registry import create_adapter, named_nodes, open_rail
from railwatch.daemon.supervisor import NullReporter, mirror_settings, rail_mirror, serve
from railwatch.ops.doctor import examine
from railwatch.ops.findings import Daemon, Report
from railwatch.store.database import Database
from railwatch_fake import Rules, node_of
from tests.scenarios.daemon_harness import DaemonHarness, chain_named

SETTLED = 4.0
"""Seconds after which a rail that is not live stays so."""


@dataclass
class Trial:
    """One configuration, to be tried by both commands."""

    stage: DaemonHarness
    raw: dict[str, Any]

    @property
    def config(self) -> Config:
        return Config.model_validate(self.raw)

    @property
    def rail(self) -> dict[str, Any]:
        """The table of the only rail."""
        return self.raw["rail"][0]

    async def check(self) -> Report:
        config = self.config
        daemon = Daemon(
            create_adapter,
            named_nodes,
            lambda rail: rail_mirror(config, rail, open_rail(rail).traits),
            preview_rail,
            mirror_settings(config),
        )
        return await examine(config, daemon)

    async def run(self) -> str:
        """Follow until the rail is live, or until it is plain that it will not be; returns why, or nothing."""
        await self.stage.database.rows("update railwatch.rails set state = 'starting', reason = null")
        daemon = asyncio.create_task(serve(self.config, None, NullReporter()))
        begun = time.monotonic()
        try:
            while not daemon.done():
                row = await self.stage.database.row(
                    "select r.state, r.reason from railwatch.rails r left join railwatch.leases l on l.rail = r.name "
                    "where r.name = $1 and (l.expires_at > now() or r.state = 'halted')",
                    self.rail["name"],
                )
                state = row["state"] if row else "starting"
                if state == "live":
                    return ""
                if state == "halted" or (state == "stalled" and time.monotonic() - begun > SETTLED):
                    return f"{state}: {row['reason'] if row else ''}"
                if time.monotonic() - begun > 2 * SETTLED:
                    return state
                await asyncio.sleep(0.05)
            return str(daemon.exception())
        finally:
            daemon.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await daemon


@pytest.fixture
async def trial(database: Database, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Trial]:
    """Return a rail with followed blocks and an open order, whose daemon is stopped."""
    monkeypatch.setattr("railwatch.daemon.preview.PATIENCE_SECONDS", SETTLED)
    monkeypatch.setattr("railwatch.daemon.follow.steadiness.FAULT_SECONDS", 0.0)
    async with DaemonHarness(database, [chain_named(rules=Rules(tokens=("gold",), finality=None))]) as stage:
        await stage.invoice(100)
        await stage.invoice(to=[{"rail": "story", "asset": "GOLD", "amount": 5}])
        await stage.mine(60)
        await stage.stop()
        raw = stage.config.model_dump(mode="python", by_alias=True, exclude_unset=True)
        raw["database"] = {"url": database.dsn}
        raw["rail"] = [dict(rail) for rail in raw["rail"]]
        yield Trial(stage, raw)
        for node in ("main", "second"):
            node_of("story", node).__init__(stage.chain)  # type: ignore[misc]  # as new


Change = Callable[[Trial], Awaitable[None]]


async def nothing(trial: Trial) -> None:
    """All is well."""


async def blocks_came(trial: Trial) -> None:
    trial.stage.chain.mine(30)


async def small_reorg(trial: Trial) -> None:
    trial.stage.chain.reorg(3)


async def chain_id_changed(trial: Trial) -> None:
    await trial.stage.database.rows("update railwatch.rails set chain_id = 'fake:elsewhere'")


async def rail_left(trial: Trial) -> None:
    trial.stage.chain.name = "other"
    from railwatch_fake import register

    register(trial.stage.chain)
    trial.rail.update(name="other", nodes=[{"chain": "other"}])
    trial.raw["policy"] = ()


async def one_asset_twice(trial: Trial) -> None:
    trial.rail["asset"] = [*trial.rail["asset"], {"symbol": "AUREUM", "contract": "gold ", "decimals": 6}]
    trial.rail["asset"][-1]["contract"] = "gold".upper() if trial.stage.chain.rules.tokens else "gold"


async def asset_left(trial: Trial) -> None:
    trial.rail["asset"] = trial.rail["asset"][:1]


async def native_decimals_wrong(trial: Trial) -> None:
    trial.rail["asset"] = [{"symbol": "COIN", "decimals": 3}]


async def finality_wanted(trial: Trial) -> None:
    trial.raw["policy"] = ({"rail": "story", "finalized": True},)


async def no_such_adapter(trial: Trial) -> None:
    trial.rail["adapter"] = "carrier-pigeon"


async def node_key_unknown(trial: Trial) -> None:
    trial.rail["nodes"] = [{"chain": "story", "htpp": "http://127.0.0.1"}]


async def node_away(trial: Trial) -> None:
    node_of("story").down = True


async def node_hangs(trial: Trial) -> None:
    node_of("story").hangs = True


async def another_chain(trial: Trial) -> None:
    node_of("story").impersonate("fake:other")


async def chain_rewritten(trial: Trial) -> None:
    """As on a testnet that began anew under the same name: no stored block is on it."""
    await trial.stage.database.rows("update railwatch.checkpoints set hash = 'old ' || hash")
    await trial.stage.database.rows("update railwatch.rails set cursor_hash = 'old'")
    trial.stage.chain.mine(2)


async def block_undecodable(trial: Trial) -> None:
    await trial.stage.sim.pay(await trial.stage.sim.new_address(), 5)
    trial.stage.chain.mine(3)
    node_of("story").undecodable = True


async def headers_misshapen(trial: Trial) -> None:
    node_of("story").misshapen = True


async def pruned_above_cursor(trial: Trial) -> None:
    trial.stage.chain.mine(30)
    node_of("story").pruned_below = trial.stage.chain.tip.height


async def node_behind(trial: Trial) -> None:
    node_of("story").lag = 5


async def head_is_old(trial: Trial) -> None:
    trial.rail["stall_after"] = 1
    await asyncio.sleep(1.5)


async def nodes_disagree(trial: Trial) -> None:
    trial.rail["nodes"] = [{"chain": "story"}, {"chain": "story", "node": "second"}]
    second = node_of("story", "second")
    second.pin(trial.stage.chain.line[-3].hash)
    second.make_up(3)


async def one_of_two_is_away(trial: Trial) -> None:
    """Stop one of two nodes: the rail follows the other, and the check reports the missing one."""
    trial.rail["nodes"] = [{"chain": "story"}, {"chain": "story", "node": "second"}]
    node_of("story", "second").down = True


async def may_not_write(trial: Trial) -> None:
    await trial.stage.database.rows("alter table railwatch.rails rename to rails_")


async def schema_of_tomorrow(trial: Trial) -> None:
    await trial.stage.database.value("insert into railwatch.migrations values (99, 'later', '')")


BROKEN: dict[Change, str] = {
    chain_id_changed: "the database knows it as fake:elsewhere",
    rail_left: "follows chain fake:story, which the database knows as rail story",
    one_asset_twice: "are one asset",
    native_decimals_wrong: "decimals",
    finality_wanted: "waits for finality, which the rail does not report",
    no_such_adapter: 'there is no adapter "carrier-pigeon"',
    node_key_unknown: "htpp",
    node_away: "is down",
    node_hangs: "answer",
    another_chain: "fake:other",
    chain_rewritten: "DeepReorg: the node's chain",
    block_undecodable: "then run: railwatch rail resume story",
    headers_misshapen: "hash",
    pruned_above_cursor: "pruned",
    node_behind: "behind",
    head_is_old: "the newest block is older than 1 s",
    nodes_disagree: "disagree",
    schema_of_tomorrow: "run the version that applied it",
}
WELL: list[Change] = [nothing, blocks_came, small_reorg, asset_left]


def text_of(report: Report) -> str:
    return "\n".join(f"{each.subject} {each.text}" for each in report.findings if each.level == "fail")


@pytest.mark.parametrize("change", BROKEN, ids=lambda each: each.__name__)
async def test_what_stops_the_daemon_or_its_rail_is_said_by_check_in_the_same_words(
    trial: Trial, change: Change
) -> None:
    await change(trial)
    report = await trial.check()
    reason = await trial.run()
    assert reason
    assert report.failed, f"run: {reason}"
    said = text_of(report)
    assert BROKEN[change] in said
    if change not in (node_away, node_hangs, node_behind, headers_misshapen, nodes_disagree, one_of_two_is_away):
        assert BROKEN[change] in reason


@pytest.mark.parametrize("change", WELL, ids=lambda each: each.__name__)
async def test_what_does_not_stop_them_is_no_failure(trial: Trial, change: Change) -> None:
    await change(trial)
    before = await state_of(trial)
    report = await trial.check()
    assert not report.failed, text_of(report)
    assert await state_of(trial) == before, "a check changes nothing"
    assert await trial.run() == ""


async def state_of(trial: Trial) -> list[Any]:
    """Everything that mirroring writes."""
    tables = ("rails", "assets", "policies", "settings", "checkpoints", "destinations")
    rows = [await trial.stage.database.rows(f"select * from railwatch.{each} order by 1, 2") for each in tables]
    return [tuple(row) for table in rows for row in table]


async def test_an_asset_that_orders_ask_for_and_that_is_not_configured_is_named(trial: Trial) -> None:
    await asset_left(trial)
    report = await trial.check()
    (warning,) = [each for each in report.findings if each.level == "warn" and "GOLD" in each.text]
    assert "open orders ask for GOLD (gold), which the configuration no longer has" in warning.text


async def test_a_missing_node_is_reported_though_the_rail_lives(trial: Trial) -> None:
    await one_of_two_is_away(trial)
    assert "is down" in text_of(await trial.check())


async def test_a_user_who_may_not_write_is_reported(trial: Trial) -> None:
    database = trial.stage.database
    await database.rows("create role story_checker login in role railwatch_reader")
    try:
        trial.raw["database"] = {"url": with_user(database.dsn, "story_checker")}
        reason = await trial.run()
        assert "the daemon may not write to this database" in reason
        assert "the daemon may not write to this database" in text_of(await trial.check())
    finally:
        await database.rows("drop role story_checker")


def with_user(dsn: str, user: str) -> str:
    """Return the DSN for another user of the same server."""
    import re

    return re.sub(r"//[^/@]*@?(?=[^@/]*/)", f"//{user}@", dsn, count=1)


async def test_a_port_of_another_process_is_reported(trial: Trial) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        trial.raw["http"] = {"listen": f"127.0.0.1:{port}"}
        assert "ddress already in use" in text_of(await trial.check())
    assert not (await trial.check()).failed


async def test_beside_a_daemon_its_port_is_no_failure(trial: Trial) -> None:
    await trial.stage.start()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        trial.raw["http"] = {"listen": f"127.0.0.1:{taken.getsockname()[1]}"}
        report = await trial.check()
    assert not report.failed, text_of(report)
    await trial.stage.stop()


@pytest.mark.parametrize("kind", ["a file", "foreign"])
async def test_a_folder_where_no_database_can_be_made_is_reported(trial: Trial, tmp_path: Path, kind: str) -> None:
    place = tmp_path / "postgres"
    if kind == "a file":
        place.write_text("")
        place = place / "below"
    else:
        place.mkdir()
        (place / "letters").write_text("")
    trial.raw["database"] = {"url": "embedded", "data_dir": place}
    assert "database" in text_of(await trial.check())
    assert not (tmp_path / "postgres" / "cluster").exists()
