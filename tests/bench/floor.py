"""The floor: the least that any program has to do, with the same libraries and nothing of ours."""

import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

import aiohttp
import asyncpg
import msgspec

from tests.bench.bench_env import BenchEnv

ONE_ROW = "create table if not exists public.floor as select 0::bigint as height"
"""An ordinary table, for the commit of a temporary one waits for no disk."""

COMMIT = "update public.floor set height = height + 1"


class Log(msgspec.Struct, rename="camel"):
    """A log, typed."""

    address: str
    topics: list[str]
    data: str
    block_hash: str
    transaction_hash: str
    log_index: str


class Header(msgspec.Struct, rename="camel"):
    """A block's header, typed."""

    number: str
    hash: str
    parent_hash: str
    timestamp: str
    logs_bloom: str


class Floor:
    """A bare client of the node and of Postgres."""

    def __init__(self, stand: BenchEnv) -> None:
        self._stand = stand
        self._headers = msgspec.json.Decoder(Header)
        self._logs = msgspec.json.Decoder(list[Log])
        self._answers = msgspec.json.Decoder(list[dict[str, msgspec.Raw]])

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession()
        self._connection = await asyncpg.connect(self._stand.database.dsn)
        await self._connection.execute(ONE_ROW)
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()
        await self._connection.close()

    async def ask(self, calls: Sequence[tuple[str, list[Any]]]) -> list[msgspec.Raw]:
        """One batch; the results, undecoded."""
        body = msgspec.json.encode(
            [{"jsonrpc": "2.0", "id": n, "method": method, "params": p} for n, (method, p) in enumerate(calls)]
        )
        url = self._stand.simulator.node["http"]
        async with self._session.post(url, data=body, headers={"Content-Type": "application/json"}) as response:
            return [answer["result"] for answer in self._answers.decode(await response.read())]

    async def fetch_block(self, block_hash: str) -> int:
        """The block and its logs, decoded; returns how many logs."""
        header, logs = await self.ask(
            [("eth_getBlockByHash", [block_hash, False]), ("eth_getLogs", [{"blockHash": block_hash}])]
        )
        self._headers.decode(header)
        return len(self._logs.decode(logs))

    async def fetch_span(self, low: int, high: int) -> int:
        """Headers and logs of a range, decoded; returns how many logs."""
        calls: list[tuple[str, list[Any]]] = [("eth_getBlockByNumber", [hex(h), False]) for h in range(low, high + 1)]
        calls.append(("eth_getLogs", [{"fromBlock": hex(low), "toBlock": hex(high)}]))
        *headers, logs = await self.ask(calls)
        for header in headers:
            self._headers.decode(header)
        return len(self._logs.decode(logs))

    async def commit(self) -> None:
        """One row, committed."""
        await self._connection.execute(COMMIT)

    async def fetch_and_commit(self, block_hash: str) -> float:
        """Seconds for both."""
        started = time.perf_counter()
        await self.fetch_block(block_hash)
        await self.commit()
        return time.perf_counter() - started
