"""``python -m tests.fuzz.nodes --minutes 60``: the long form, in which memory and stalls are findings too."""

from __future__ import annotations

import argparse
import asyncio
import random
import sys

from railwatch.daemon.supervisor import tune_process
from tests.fuzz.nodes.chains import KINDS, chain_of
from tests.fuzz.nodes.run import Report, fuzz


async def main() -> int:
    """Play, report, and return the number for the shell."""
    parser = argparse.ArgumentParser(prog="make fuzz-nodes ARGS=", description="Hostile answers of nodes.")
    parser.add_argument("--minutes", type=float, default=3.0, help="in all, shared by the chains")
    parser.add_argument(
        "--seed", type=int, default=None, help="the first example's; the number of a finding plays it again"
    )
    parser.add_argument("--examples", type=int, default=None, help="so many of each chain, instead of minutes")
    parser.add_argument("--chain", choices=KINDS, action="append", help="only these")
    parser.add_argument("--lenient", action="store_true", help="report memory and stalls, and do not fail for them")
    options = parser.parse_args()
    # As the daemon does: with Python's own thresholds, to decode a million lists takes three times as long.
    tune_process()
    first = random.randrange(10**9) if options.seed is None else options.seed
    kinds = options.chain or list(KINDS)
    bad = 0
    print(f"from --seed {first} on")
    for kind in kinds:
        async with chain_of(kind) as chain:
            seconds = options.minutes * 60 / len(kinds)
            report = await fuzz(chain, first, examples=options.examples, seconds=seconds, strict=not options.lenient)
        print(format_report(kind, report), flush=True)
        bad += len(report.findings)
    return 1 if bad else 0


def format_report(kind: str, report: Report) -> str:
    """One line of numbers."""
    most = ", ".join(
        f"{name} {times}" for name, times in sorted(report.methods.items(), key=lambda each: -each[1])[:40]
    )
    return (
        f"{kind}: {report.examples} examples, {report.changed} answers changed, {report.errors} errors of the three "
        f"kinds, {len(report.findings)} findings; at most {report.peak:.0f} MiB more, and {report.stall * 1000:.0f} ms "
        f"without a turn of the loop\n  changed: {most}"
    )


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
