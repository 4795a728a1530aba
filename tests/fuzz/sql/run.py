"""One round of the fuzzer: batches of calls by all roles at once, and after each batch what must hold."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg

from tests.fuzz.sql.ground import LEFT, Ground, ground
from tests.fuzz.sql.showing import Shell, quiet_logs, show_everything
from tests.fuzz.sql.values import COMPOSITES, Arguments, type_name

FUNCTIONS = """
select p.proname as name, p.proretset as many, (coalesce(p.proargnames, '{}'))[1:p.pronargs] as names,
       array(select t.typname::text from unnest(p.proargtypes) with ordinality as a (oid, n)
             join pg_type t on t.oid = a.oid order by n) as kinds,
       p.pronargdefaults as defaults,
       array(select r from unnest($1::text[]) as r where has_function_privilege(r, p.oid, 'execute')) as users
from pg_proc p
where p.pronamespace = 'railwatch'::regnamespace and p.prorettype <> 'trigger'::regtype
order by p.proname, p.oid"""
BY_ROLE_BUT_NOT_COMMITTED = frozenset({"next_seq"})
"""A seq that is allocated and not used is a gap, for which the daemon's own right is enough."""
PLAIN = {"42501": "permission denied"}
"""SQLSTATEs of Postgres that a call may end with, in addition to those of class RW and of arguments: `OF_ARGUMENTS`."""
OF_ARGUMENTS = {
    "22P02": "a text that is no value of the type",
    "22P03": "the same, in binary",
    "22P05": "a character that the encoding does not have",
    "22003": "a number beyond the type",
    "22007": "no time",
    "22008": "a time beyond the type",
    "22021": "bytes that are no text",
    "22030": "a key twice",
    "22032": "no JSON",
    "42804": "another type",
    "42846": "a type that cannot be cast",
    "42883": "no function that accepts these types",
    "54000": "beyond what the server holds",
    "54001": "too deep",
}
"""SQLSTATEs of the caller's own casts, before a function is called: the argument alone is refused with them."""
SLOW_STRICT, SLOW_LENIENT = 5.0, 30.0
"""Seconds within which a call must end. The lenient bound is for machines that do other things as well."""
CALLS = {"service": 20, "operator": 16, "daemon": 20, "reader": 6, "deliverer": 5, "stranger": 5}
"""Of each role, in a batch: most where most may be called."""
WEIGHTS = {"create_invoice": 8, "create_invoices": 3, "record_refund": 3, "resolve_exception": 2}
"""Functions with the largest arguments, or the most checks, are called more often."""
COMMANDS_EVERY = 8
"""Batches: commands take longer than all the rest."""
DEADLINE = 120.0


@dataclass(frozen=True, slots=True)
class Finding:
    """What must not happen, and the statement (or the batch) that it came of."""

    seed: str
    what: str
    statement: str = ""

    def __str__(self) -> str:
        return f"--seed {self.seed}: {self.what}\n    {self.statement:.3000}"


@dataclass(slots=True)
class Report:
    """Numbers for a person."""

    rounds: int = 0
    calls: int = 0
    returned: Counter[str] = field(default_factory=Counter)
    """Calls that were not refused, by function."""
    refused: Counter[str] = field(default_factory=Counter)
    """Refusals, by SQLSTATE."""
    own: Counter[str] = field(default_factory=Counter)
    """Arguments that were the caller's own fault, by SQLSTATE."""
    slowest: float = 0.0
    slowest_call: str = ""
    findings: list[Finding] = field(default_factory=list)


class Fuzzer:
    """Plays batches on one ground."""

    def __init__(self, on: Ground, seed: str, report: Report, folder: Path, *, strict: bool) -> None:
        self._ground, self._seed, self._report = on, seed, report
        self._slow = SLOW_STRICT if strict else SLOW_LENIENT
        self._shell = Shell(on.database.dsn, folder, on.receiver.url)
        self._functions: list[Any] = []
        self._seen: set[Any] = set()

    async def batch(self, number: int, *, commands: bool) -> None:
        """Let every role call, and see that all is well afterwards; with ``commands``, that these show it too."""
        if not self._functions:
            users = list(self._ground.users.values())
            self._functions = await self._ground.database.rows(FUNCTIONS, users)
        await self._ground.look_up()
        before = len(self._report.findings)
        await asyncio.gather(*(self._play(role, random.Random(f"{self._seed}/{number}/{role}")) for role in CALLS))
        if len(self._report.findings) == before:
            await self._hold(number, commands)

    def _found(self, what: str, statement: str = "") -> None:
        self._report.findings.append(Finding(self._seed, what, statement))

    async def _play(self, role: str, dice: random.Random) -> None:
        connection = self._ground.logins[role]
        await connection.execute(f"set statement_timeout = '{self._slow * 2:.0f}s'")
        arguments = Arguments(dice, self._ground.known, self._ground.new_address)
        allowed = [each for each in self._functions if self._ground.users[role] in each["users"]]
        for _ in range(CALLS[role]):
            choices = allowed if allowed and dice.random() < 0.95 else self._functions
            function = dice.choices(choices, [WEIGHTS.get(each["name"], 1) for each in choices])[0]
            given = [
                (name, arguments.of(function["name"], name, kind))
                for name, kind in zip(function["names"], function["kinds"], strict=True)
            ]
            required = len(given) - function["defaults"]
            given = given[: required + dice.randint(0, function["defaults"])]
            if not await self._are_values(connection, function, given):
                continue
            await self._call(connection, role, function, given)

    async def _are_values(self, connection: Any, function: Any, given: list[tuple[str, str]]) -> bool:
        """Return True if the arguments are what the function accepts; if not, the refusal is the caller's own."""
        parts = []
        for (_, value), kind in zip(given, function["kinds"], strict=False):
            if kind not in COMPOSITES:  # of which only a reader can make one
                parts.append(f"(({value})::{kind}) is null")
        try:
            if parts:
                await connection.fetch(f"select {', '.join(parts)}")
        except asyncpg.PostgresError as error:
            state = error.sqlstate or ""
            self._report.own[state] += 1
            if state not in OF_ARGUMENTS:
                self._found(f"an argument is refused with {state}, which is not in the list: {error}", str(given))
            return False
        return True

    async def _call(self, connection: Any, role: str, function: Any, given: list[tuple[str, str]]) -> None:
        name = function["name"]
        casts = (
            f"{each} => ({value})::{type_name(kind)}"
            for (each, value), kind in zip(given, function["kinds"], strict=False)
        )
        statement = f"select * from railwatch.{name}({', '.join(casts)})"
        begun = time.monotonic()
        self._report.calls += 1
        try:
            transaction = connection.transaction()
            await transaction.start()
            try:
                await connection.fetch(statement)
                self._report.returned[name] += 1
            except BaseException:
                await transaction.rollback()
                raise
            if name in BY_ROLE_BUT_NOT_COMMITTED:
                await transaction.rollback()
            else:
                await transaction.commit()
        except asyncpg.PostgresError as error:
            state = error.sqlstate or ""
            self._report.refused[state] += 1
            if not state.startswith("RW") and state not in PLAIN:
                self._found(f"{role} is refused with {state}: {type(error).__name__}: {error}", statement)
            elif state in PLAIN and self._ground.users[role] in function["users"]:
                self._found(f"{role} may call {name}, and what it calls may not: {error}", statement)
        except (asyncpg.InterfaceError, OverflowError, ValueError, RecursionError) as error:
            self._found(f"{role} got an answer that no driver reads: {type(error).__name__}: {error}", statement)
        took = time.monotonic() - begun
        if took > self._report.slowest:
            self._report.slowest, self._report.slowest_call = took, f"{role}: {statement:.200}"
        if took > self._slow:
            self._found(f"{role} waited {took:.1f} s", statement)

    async def _hold(self, number: int, commands: bool) -> None:
        """Check that all that must hold does."""
        try:
            async with asyncio.timeout(DEADLINE):
                await self._look(number, commands)
        except Exception as error:  # noqa: BLE001 (whatever a reader raises is what is asked for)
            self._found(f"after batch {number}: {type(error).__name__}: {error}")

    async def _look(self, number: int, commands: bool) -> None:
        stage, database = self._ground.stage, self._ground.database
        left = await database.rows(LEFT_LOCKS, list(self._ground.users.values()))
        assert not left, f"locks are left: {[tuple(row) for row in left]}"
        await show_everything(database, self._seen)
        if commands:
            newest = "select id::text from railwatch.invoices order by created_at desc limit 1 offset $1"
            await self._shell.shows_all([row[0] for row in await database.rows(newest, number % 3)])
        await stage.mine(1)
        await stage.all_taken_in()
        assert not stage.failures, f"a task of the daemon's failed: {stage.failures}"
        assert not stage.is_over, "the daemon has ended"
        poisoned = await database.rows("select invoice_id, reason from railwatch.quarantine where tries > 0")
        assert not poisoned, f"the daemon cannot process {[tuple(row) for row in poisoned]}"
        halted = await database.rows(
            "select name, reason from railwatch.rails where state = 'halted' and name <> $1", LEFT
        )
        assert not [row for row in halted if row["name"] == stage.chain.name], f"{[tuple(row) for row in halted]}"

    async def end(self) -> None:
        """After the last batch: honest money is still seen, everything is delivered, and the feed is whole."""
        stage = self._ground.stage
        try:
            async with asyncio.timeout(DEADLINE):
                fresh = await stage.invoice(100, merchant_id="honest")
                await stage.pay(fresh)
                await stage.mine(3)
                await stage.wait_for_state(fresh, "paid")
                await stage.audit()
                await stage.until(self._ground.shop.owes_nothing)
        except Exception as error:  # noqa: BLE001 (as above)
            self._found(f"in the end: {type(error).__name__}: {error!s:.2000}")


LEFT_LOCKS = """
select a.usename, a.state, l.locktype, l.mode from pg_locks l join pg_stat_activity a on a.pid = l.pid
where a.usename = any ($1) and a.application_name <> 'railwatch' and l.locktype <> 'virtualxid'"""


async def fuzz(
    dsn: str, seed: str, report: Report, folder: Path, *, batches: int, until: float | None = None, strict: bool = False
) -> None:
    """Play ``batches`` on the empty database ``dsn``, or as many as begin before ``until`` (monotonic seconds)."""
    async with quiet_logs(), ground(dsn) as on:
        fuzzer = Fuzzer(on, seed, report, folder, strict=strict)
        for number in range(batches):
            if until is not None and time.monotonic() > until:
                break
            await fuzzer.batch(number, commands=number % COMMANDS_EVERY == COMMANDS_EVERY - 1)
        await fuzzer.end()
    report.rounds += 1
