"""`python -m tests.model`: many stories by seed, resumable; or one kept story again.

python -m tests.model --examples 20000 --seed 1     batches of 100, each with a seed of its own, until all are played
python -m tests.model --episode NAME --examples 8   stories of one episode each (all: of each of them in turn)
python -m tests.model --replay FILE --times 20      a kept story again, as often as asked
python -m tests.model --coverage                    print too in how many stories what came about
"""

import argparse
import json
import logging
import sys
import time
import traceback
from pathlib import Path

import structlog

from tests.model.episodes import EPISODES
from tests.model.harness import Harness
from tests.model.machine import KEPT, STEPS, Model, play_stories
from tests.model.reached import Reached

BATCH = 100


def main() -> int:
    """Play, and say how long it took. Returns 1 if a story failed."""
    parser = argparse.ArgumentParser(prog="tests.model", description=__doc__)
    parser.add_argument("--examples", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1, help="the first batch's; batch n has this and n")
    parser.add_argument("--batch", type=int, default=BATCH)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--no-shrink", action="store_true")
    parser.add_argument("--go-on", action="store_true", help="play on after a failure")
    parser.add_argument("--resume", type=Path, help="a file that remembers which batches are played")
    parser.add_argument("--episode", choices=("all", *EPISODES), help="one course of events, instead of random ones")
    parser.add_argument("--coverage", action="store_true", help="print in how many stories what came about")
    parser.add_argument("--replay", type=Path)
    parser.add_argument("--times", type=int, default=1)
    given = parser.parse_args()
    # Nothing is logged: stories break what they like, and what came of it is compared.
    structlog.configure(processors=[_forget], wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    with Harness() as harness:
        Model.harness = harness
        harness.reached = Reached() if given.coverage else None
        if given.episode:
            failed = live_through(harness, given)
        else:
            failed = replay(harness, given.replay, given.times) if given.replay else play(given)
        if harness.reached is not None:
            print(harness.reached.table())
        return failed


def _forget(*_: object) -> str:
    raise structlog.DropEvent


def replay(harness: Harness, path: Path, times: int) -> int:
    """Play one story again and again."""
    failed = 0
    for _ in range(times):
        try:
            harness.replay(json.loads(path.read_text()))
        except Exception as failure:  # noqa: BLE001 - whatever a story dies of is what is asked for
            failed += 1
            print(failure if isinstance(failure, AssertionError) else traceback.format_exc())
    print(f"{path}: failed {failed} of {times}")
    return 1 if failed else 0


def live_through(harness: Harness, given: argparse.Namespace) -> int:
    """Play one episode, or each, ``examples`` times; each time with other nodes, rules and variation."""
    began, failures = time.monotonic(), 0
    names = list(EPISODES) if given.episode == "all" else [given.episode]
    for number in range(given.examples):
        for name in names:
            try:
                harness.live_through(name, number)
            except Exception as failure:  # noqa: BLE001 - whatever a story dies of is what is asked for
                failures += 1
                print(f"\nfirst failure, story {name}-{number + 1}:\n{failure}", flush=True)
                if not isinstance(failure, AssertionError):
                    traceback.print_exc(file=sys.stdout)
                if not given.go_on:
                    return 1
    minutes = (time.monotonic() - began) / 60
    print(f"{given.examples * len(names)} stories of {given.episode} in {minutes:.2f} min, {failures} failed")
    return 1 if failures else 0


def play(given: argparse.Namespace) -> int:
    """Play batches, and remember them."""
    done: dict[str, float] = json.loads(given.resume.read_text()) if given.resume and given.resume.exists() else {}
    began, failures = time.monotonic(), 0
    for number in range(-(-given.examples // given.batch)):
        this = given.seed + number
        if str(this) in done:
            continue
        batch_began, played = time.monotonic(), Model.played
        Model.first_failure = None
        try:
            play_stories(this, given.batch, shrink=not given.no_shrink, steps=given.steps)
        except BaseException as failure:
            if isinstance(failure, KeyboardInterrupt):
                raise
            failures += 1
            print(f"seed {this} failed; its first failure is kept in {Model.first_failure}", flush=True)
            traceback.print_exc()
            if not given.go_on:
                return 1
            continue
        minutes = (time.monotonic() - batch_began) / 60
        done[str(this)] = round(minutes, 2)
        if given.resume:
            given.resume.parent.mkdir(parents=True, exist_ok=True)
            given.resume.write_text(json.dumps(done))
        print(f"seed {this}: {Model.played - played} stories in {minutes:.2f} min", flush=True)
    stories, minutes, now = len(done) * given.batch, sum(done.values()), (time.monotonic() - began) / 60
    seeds = f"seeds {min(map(int, done), default=0)} to {max(map(int, done), default=0)}"
    print(f"{stories} stories, {seeds}, {minutes:.1f} min in all, {now:.1f} now; failures are kept in {KEPT}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
