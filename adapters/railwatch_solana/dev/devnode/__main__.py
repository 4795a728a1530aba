"""``python -m railwatch_solana.dev.devnode``: the node as a program."""

import asyncio
import signal
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import click

from railwatch_solana.dev.devnode.ledger import Ledger, LedgerError
from railwatch_solana.dev.devnode.node import Node, Settings
from railwatch_solana.dev.devnode.server import Server

COUNT = click.IntRange(0, 1_000_000)


@click.command(context_settings={"show_default": True})
@click.option("--port", type=click.IntRange(0, 65_535), default=8899, help="JSON-RPC; 0 lets the kernel choose.")
@click.option("--ws-port", type=click.IntRange(0, 65_535), help="Pubsub.  [default: port + 1, or 0 if the port is 0]")
@click.option("--slot-ms", type=COUNT, default=0, help="A block every so many ms; 0 = only by devProduce.")
@click.option("--confirm-lag", type=COUNT, default=1, help="Blocks by which confirmed is behind processed.")
@click.option(
    "--root-lag", type=COUNT, default=31, help="Blocks by which finalized is behind confirmed; 0: they are one."
)
@click.option("--start-slot", type=click.IntRange(0, 1 << 48), default=0, help="The slot of the first block.")
@click.option("--seed", default="railwatch", help="Genesis hash and faucet come from it.")
@click.option(
    "--ledger",
    type=click.Path(file_okay=False, path_type=Path),
    help="Keep what happens here, and go on from it.",
)
@click.option("--keep", type=COUNT, default=0, help="Serve only the newest N finalized blocks; 0 = all.")
def main(
    port: int,
    ws_port: int | None,
    slot_ms: int,
    confirm_lag: int,
    root_lag: int,
    start_slot: int,
    seed: str,
    ledger: Path | None,
    keep: int,
) -> None:
    """Run a Solana node for development, on loopback.

    Real: execution by the SVM and its programs, signatures, fees, rent, metadata. Simulated: slots, commitments, forks
    and skipped slots; there are no votes and no stake. When it listens it prints "ready http=... ws=...". An existing
    ledger brings its own seed, start and lags. The README next to this module lists the controls (devProduce, devFork).
    """
    settings = Settings(seed, start_slot, confirm_lag, root_lag, keep, int(time.time()))
    if ws_port is None:
        ws_port = port + 1 if 0 < port < 65_535 else 0
    with ExitStack() as stack:
        try:
            node = stack.enter_context(Ledger(ledger)).rise(settings) if ledger else Node(settings)
        except LedgerError as error:
            sys.exit(str(error))
        try:
            asyncio.run(_serve(Server(node, port=port, ws_port=ws_port, slot_ms=slot_ms)))
        except OSError as error:
            sys.exit(f"cannot listen: {error}")


async def _serve(server: Server) -> None:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    async with server:
        print(f"ready http=http://127.0.0.1:{server.port} ws=ws://127.0.0.1:{server.ws_port}", flush=True)
        await stopped.wait()


if __name__ == "__main__":
    main()
