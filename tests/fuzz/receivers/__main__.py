"""``python -m tests.fuzz.receivers --minutes 10``: the long form, in which time and memory are findings too."""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import time

from tests.fuzz.receivers.run import Report, fuzz

ROUND = 100
"""Examples of one turn, after which the clock is read."""


async def main() -> int:
    """Play, report, and return the number for the shell."""
    parser = argparse.ArgumentParser(prog="make fuzz-receivers ARGS=", description="Hostile receivers of webhooks.")
    parser.add_argument("--minutes", type=float, default=3.0)
    parser.add_argument("--seed", type=int, default=None, help="the first example's; that of a finding plays it again")
    parser.add_argument("--examples", type=int, default=None, help="so many, instead of minutes")
    parser.add_argument("--lenient", action="store_true", help="report time and memory, and do not fail for them")
    options = parser.parse_args()
    first = random.randrange(10**9) if options.seed is None else options.seed
    print(f"from --seed {first} on")
    if options.examples is not None:
        report = await fuzz(first, examples=options.examples, strict=not options.lenient)
        print(format_report(report), flush=True)
        return 1 if report.findings else 0
    end, bad = time.monotonic() + options.minutes * 60, 0
    while time.monotonic() < end:
        report = await fuzz(first, examples=ROUND, strict=not options.lenient)
        print(format_report(report), flush=True)
        bad += len(report.findings)
        first += ROUND
    return 1 if bad else 0


def format_report(report: Report) -> str:
    """Numbers, what the receivers did, and each finding."""
    acts = ", ".join(f"{name} {times}" for name, times in sorted(report.acts.items()))
    lines = [
        f"{report.examples} examples, {report.posts} posts, {report.accepted} accepted, "
        f"{len(report.findings)} findings; "
        f"at most {report.longest:.2f} s for a post, {report.memory:.0f} MiB more, "
        f"{report.stall * 1000:.0f} ms without a turn of the loop",
        f"  did: {acts}",
        *report.findings,
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
