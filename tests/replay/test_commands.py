"""`railwatch record` and `railwatch replay` as people run them."""

import asyncio
import gzip
import json
import re
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest

from railwatch.replay.recording import End, Http, read_recording
from railwatch_evm.dev.simulator import EvmSimulator
from tests.recordings.ledgers import played
from tests.scenarios.evm_harness import CONFIG

ROOT = Path(__file__).parents[2]
REORG = ROOT / "tests" / "recordings" / "evm-reorg.rec.gz"


async def _run(*words: str, until: str | None = None) -> tuple[int, str, str]:
    """Run a command; with ``until``, send SIGINT once it has printed that to stdout."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "railwatch", *words),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    seen = b""
    if until is not None:
        async with asyncio.timeout(60):
            while until.encode() not in seen:
                seen += await process.stdout.readline()
        process.send_signal(signal.SIGINT)
    out, err = await process.communicate()
    return process.returncode or 0, (seen + out).decode(), err.decode()


@pytest.mark.anvil
async def test_ctrl_c_keeps_what_was_recorded_and_the_replay_says_that_it_was_cut(tmp_path: Path, server: str) -> None:
    async with EvmSimulator() as sim:
        address = await sim.new_address()
        text = CONFIG.format(
            dsn='"postgresql://nobody:secret@127.0.0.1:1/none"',
            http=json.dumps(sim.node["http"]),
            ws=json.dumps(sim.node["ws"]),
            token=json.dumps(sim.token),
            confirmations=1,
            options="",
        )
        config, file = tmp_path / "railwatch.toml", tmp_path / "it.rec.gz"
        await asyncio.to_thread(config.write_text, text)
        command = ["record", "--config", str(config), "--rail", "local-evm", "--minutes", "5", "--json"]
        code, out, err = await _run(*command, "--watch", address, str(file), until='"height":3')
        assert code == 0, err
        assert json.loads(out.splitlines()[-1])["why"] == "interrupted"
        again = await _run(*command, "--watch", address, str(file))
        assert (again[0], "exists" in again[2]) == (1, True)
        without = await _run(*command, str(tmp_path / "other"))
        assert without[0] == 4
    assert sim.node["http"] not in gzip.decompress(file.read_bytes()).decode()
    code, out, err = await _run("replay", str(file), "--database", server)
    assert code == 1
    assert "a person ended it" in err
    assert address in out


def _tampered(file: Path, without: str) -> Path:
    """Copy the reorg's recording, without the requests for a method."""
    lines = gzip.decompress(REORG.read_bytes()).splitlines(keepends=True)
    file.write_bytes(gzip.compress(b"".join(line for line in lines if without.encode() not in line)))
    return file


def test_a_request_that_was_not_recorded_is_named(tmp_path: Path, server: str) -> None:
    outcome = played(_tampered(tmp_path / "less.rec.gz", '"eth_getLogs"'), server)
    assert outcome.missing is not None
    assert re.fullmatch(
        r"node-1 was asked for eth_\w+ \[.*\] at \d+\.\d{3} s: the recording holds no answer to it",
        str(outcome.missing),
    )


def test_invoices_of_ones_own_come_at_their_time(server: str) -> None:
    """Instead of the recorded ones: the same address, registered after the reorg."""
    recording = read_recording(REORG)
    [request] = [each for each in recording.header.invoices if each["order_id"] == "ether"]
    outcome = played(REORG, server, invoices=[{**request, "order_id": "later", "at": 1.0}])
    [invoice] = outcome.ledger["invoices"]
    assert (invoice["order_id"], invoice["transitions"][0]["at"]) == ("later", 1.0)
    assert outcome.missing is not None or invoice["state"] == "paid"


def test_a_recording_holds_what_a_test_needs_and_no_place() -> None:
    for file in REORG.parent.glob("*.rec.gz"):
        text = gzip.decompress(file.read_bytes()).decode()
        assert not re.search(r"/tmp/|/home/|/root/", text), file.name
        assert msgspec.json.decode(text.splitlines()[-1].encode(), type=End).why == "time"
        assert any(isinstance(event, Http) for event in read_recording(file).events)


def _python(folders: Sequence[str]) -> list[Path]:
    return [file for folder in folders for file in (ROOT / folder).rglob("*.py")]


def test_the_daemon_reads_the_clock_where_a_replay_can_turn_it() -> None:
    """`datetime.now` and imported functions of `time` cannot be replaced while a recording is played."""
    read = re.compile(r"datetime\.now\(|from time import|utcnow\(")
    wrong = [
        str(file)
        for file in _python(["indexer/railwatch/daemon", "indexer/railwatch/rail"])
        if read.search(file.read_text())
    ]
    assert not wrong
