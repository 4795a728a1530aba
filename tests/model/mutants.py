"""Planted defects, one for each thing that the model must notice: a model that finds none of them proves nothing.

    python -m tests.model.mutants                 all of them, each in a copy of the sources
    python -m tests.model.mutants NAME ...        some of them

Each is a replacement of a few words in one file. Several seeds are tried until a story fails.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PARTS = ("indexer", "adapters", "tests")


@dataclass(frozen=True, slots=True)
class Mutant:
    """Replaces ``old``, at all its ``places`` in the file, by ``new``.

    ``episode``: the course of events that needs what it breaks. ``breaks``: the invariant, in a few words.
    """

    name: str
    episode: str
    breaks: str
    path: str
    old: str
    new: str
    places: int = 1


MUTANTS = [
    Mutant(
        "amount-stays",
        "changes_in_its_block",
        "content follows the chain: the amount",
        "indexer/railwatch/core/lifecycle.py",
        "known.amount, known.maturity, known.spends = observation.amount, observation.maturity, observation.spends",
        "known.spends = observation.spends",
    ),
    Mutant(
        "recipient-stays",
        "changes_in_its_block",
        "content follows the chain: recipient and asset",
        "indexer/railwatch/core/step.py",
        "same = same or next((each for each in before if each.pays_like(transfer)), None)",
        "same = same or next(iter(before), None)",
    ),
    Mutant(
        "maturity-ignored",
        "ripens",
        "a payment counts once it can be spent",
        "indexer/railwatch/core/policy.py",
        'Threshold("depth", height + max(self.confirmations, maturity) - 1)',
        'Threshold("depth", height + self.confirmations - 1)',
    ),
    Mutant(
        "orphans-one-less",
        "is_undone",
        "no inclusion outlives its block",
        "indexer/railwatch/core/chain_sync.py",
        "return _adopt_branch(known[canonical], view, limits)",
        "return _adopt_branch(known[min(canonical + 1, len(known) - 1)], view, limits)",
    ),
    Mutant(
        "refunds-not-netted",
        "is_given_back_before_the_rest",
        "settled means that the merchant has it",
        "indexer/railwatch/core/assessment.py",
        "if arrived < least or refunded is None:",
        "if True:",
    ),
    Mutant(
        "nothing-waived",
        "is_given_back_by_choice",
        "what was given back by choice is not asked for again",
        "indexer/railwatch/core/assessment.py",
        ">= least - refunded.waived",
        ">= least",
    ),
    Mutant(
        "old-money-pays",
        "registers_what_was_paid",
        "a payment belongs to its invoice's time",
        "indexer/railwatch/core/matching.py",
        "return block.time < owner.accepts_from and not is_newer",
        "return False",
    ),
    Mutant(
        "blind-promotes",
        "comes_late_and_old",
        "blind is blind: promotion",
        "indexer/railwatch/core/lifecycle.py",
        "() if ctx.blind else aggregate.detections.values()",
        "aggregate.detections.values()",
    ),
    Mutant(
        "old-tip-covers",
        "comes_back_behind",
        "blind is blind: a node that has just come back",
        "indexer/railwatch/daemon/follow/health.py",
        "within is None or age <= within or",
        "True or",
    ),
    Mutant(
        "cancelled-takes-money",
        "is_cancelled_first",
        "money for a closed order is unexpected",
        "indexer/railwatch/core/lifecycle.py",
        "if observation.kind is Kind.PAYMENT and state_without_hold in MANUAL_END:",
        "if False:",
    ),
    Mutant(
        "reversed-silent",
        "is_undone",
        "a reversal is an exception",
        "indexer/railwatch/core/exception_rules.py",
        'if _is_reversed(invoice, received):\n        yield "reversed"',
        "",
    ),
    Mutant(
        "final-too-early",
        "ripens",
        "final means past finality",
        "indexer/railwatch/core/policy.py",
        'Threshold("depth", max(height + horizon - 1, met.height))',
        'Threshold("depth", max(height + horizon - 2, met.height))',
    ),
    Mutant(
        "confirmed-one-early",
        "ripens",
        "nothing is confirmed before its depth",
        "indexer/railwatch/core/policy.py",
        'return due.height <= (self.cursor if due.basis == "depth" else self.finalized)',
        'return due.height <= (self.cursor + 1 if due.basis == "depth" else self.finalized)',
    ),
    Mutant(
        "no-look-back",
        "registers_what_was_paid",
        "registration cannot race",
        "indexer/railwatch/daemon/watch/registrar.py",
        "cursor.height - max(self.traits.lookback, self.node.traits.lookback)\n",
        "cursor.height\n",
    ),
    Mutant(
        "seqs-with-holes",
        "is_cancelled_first",
        "the feed has no gaps",
        "indexer/railwatch/store/sql/schema/40_feed.sql",
        "set last_seq = last_seq + how_many\n    where last_seq >=",
        "set last_seq = last_seq + how_many + 1\n    where last_seq >=",
    ),
    Mutant(
        "no-fence",
        "goes_on_without_its_lease",
        "whoever lost the lease writes nothing",
        "indexer/railwatch/store/sql/queries/steps.sql",
        "epoch = $2",
        "epoch >= $2",
        places=4,
    ),
    Mutant(
        "aside-unfenced",
        "stands_still_over_the_mempool",
        "whoever lost the lease writes nothing: look-backs, rescans and the clock",
        "indexer/railwatch/store/sql/queries/steps.sql",
        "where name = $1 and epoch = $2\nfor no key update",
        "where name = $1 and epoch >= $2\nfor no key update",
    ),
    Mutant(
        "rewinds-ignored",
        "is_looked_back_for_over_a_reorg",
        "no inclusion outlives its block: what was searched for before a reorg is not written after it",
        "indexer/railwatch/store/steps.py",
        '            if row["rewinds"] != rewinds:',
        "            if False:",
    ),
    Mutant(
        "dropped-when-mined",
        "is_mined_while_asked",
        "what a block has just taken is not dropped",
        "indexer/railwatch/daemon/follow/mempool_poller.py",
        "if heads.latest.hash != cursor.hash or heads.claimed_height is not None:",
        "if False:",
    ),
    Mutant(
        "rivals-unseen",
        "is_displaced",
        "a double-spend is told",
        "adapters/railwatch_fake/decode.py",
        '"rivals": _rivals(tx, watches),',
        '"rivals": (),',
    ),
    Mutant(
        "one-node-decides",
        "is_lied_to",
        "more than half decide: the head",
        "indexer/railwatch/daemon/nodes/cross_check.py",
        "    return voters // 2 + 1",
        "    return 1",
    ),
    Mutant(
        "closes-by-the-clock",
        "closes_unseen",
        "blind is blind: watching ends once everything up to its end is covered",
        "indexer/railwatch/store/sql/queries/watches.sql",
        "not railwatch.is_covered(d, r, l.closes_at, l.time_basis))",
        "d.watch_state = 'registered')",
    ),
    Mutant(
        "closes-over-pending",
        "closes_over_a_payment",
        "watching waits for what is on its way",
        "indexer/railwatch/store/sql/queries/watches.sql",
        "          and (x.state in ('pending', 'included', 'confirmed')",
        "          and (x.state in ('confirmed')",
    ),
    Mutant(
        "index-never-caught-up",
        "is_taken_over",
        "the index is never older than the lease",
        "indexer/railwatch/daemon/watch/watchlist.py",
        "                keys, self._position = await self.store.accepted_after(self._position)",
        "                keys: list[bytes] = []",
    ),
    Mutant(
        "one-generation",
        "loses_the_newest",
        "the feed fools nobody: a failover begins a generation",
        "indexer/railwatch/store/sql/schema/40_feed.sql",
        "extract(epoch from pg_postmaster_start_time()) || ' ' || pg_relation_filepath('railwatch.feed_position')",
        "'always the same'",
    ),
    Mutant(
        "no-margin",
        "is_paid_by_a_late_block",
        "blind is blind: expiry waits for blocks that come after their timestamp",
        "indexer/railwatch/daemon/supervisor.py",
        "(rail.stuck_after, rail.blind_after, rail.time_margin)",
        "(rail.stuck_after, rail.blind_after, 0)",
    ),
    Mutant(
        "asset-forgotten",
        "loses_an_asset",
        "the configuration hides no money: what open orders ask for",
        "indexer/railwatch/daemon/demand.py",
        "return rail.with_assets(wanted)",
        "return rail",
    ),
    Mutant(
        "one-fails-all",
        "is_set_aside",
        "a failing invoice harms itself only",
        "indexer/railwatch/daemon/follow/committer.py",
        "finish, apart=True)",
        "finish, apart=False)",
    ),
    Mutant(
        "deferred-forgotten",
        "is_set_aside",
        "a failing invoice harms itself only, and nothing of it is lost",
        "indexer/railwatch/store/quarantine.py",
        "        if rows:",
        "        if False:",
    ),
    Mutant(
        "dust-pays",
        "is_sent_dust",
        "cost does not depend on strangers: what is small moves nothing",
        "indexer/railwatch/core/step.py",
        "    if found.amount >= configured.get(found.asset, 0):",
        "    if True:",
    ),
    Mutant(
        "dust-uncounted",
        "is_sent_dust",
        "cost does not depend on strangers: what is small is counted",
        "indexer/railwatch/core/step.py",
        "            count_small(aggregate, update.small)",
        "            pass",
    ),
    Mutant(
        "looks-once",
        "is_told_otherwise",
        "the second look: what another node tells otherwise is not final",
        "indexer/railwatch/daemon/follow/second_look.py",
        "if (transfer.to, transfer.asset, transfer.amount) == (claim.key, claim.asset, claim.amount):",
        "if True:",
    ),
    Mutant(
        "mismatch-ends",
        "is_told_otherwise",
        "the second look: what is told otherwise stands until a person decides",
        "indexer/railwatch/store/sql/queries/aggregates.sql",
        "                         x.looked_at_block, x.seen_waiting)",
        "                         null::text, x.seen_waiting)",
    ),
    Mutant(
        "one-rail-expires",
        "is_blind_on_one_rail",
        "blind is blind: a window is over once every rail was covered to its end",
        "indexer/railwatch/core/model.py",
        "        return all(\n            destination.watching",
        "        return any(\n            destination.watching",
    ),
    Mutant(
        "network-ignored",
        "is_paid_on_the_wrong_rail",
        "money on another network is told as such",
        "indexer/railwatch/core/matching.py",
        "    if nearest.rail != rail:",
        "    if False:",
    ),
    Mutant(
        "mixed-untold",
        "is_paid_on_either_rail",
        "amounts are never summed across rails, and money on several is an exception",
        "indexer/railwatch/core/exception_rules.py",
        "each.seen or each.late) > 1:",
        "each.seen or each.late) > 2:",
    ),
    Mutant(
        "verdict-ignored",
        "is_told_otherwise",
        "the second look: what a person has rejected is dropped",
        "indexer/railwatch/core/lifecycle.py",
        "        and detection.is_rejected_in(detection.block_hash)",
        "        and False",
    ),
]


def main() -> int:
    """Plant each, and say which were found. Returns 1 if one was missed."""
    parser = argparse.ArgumentParser(prog="tests.model.mutants", description=__doc__)
    parser.add_argument("names", nargs="*", help="some of them; none named: all")
    parser.add_argument("--episodes", type=int, default=40, help="stories of the mutant's episode, at most")
    parser.add_argument("--stories", type=int, default=100, help="random ones after these, at most")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    missed = []
    for mutant in MUTANTS:
        if given.names and mutant.name not in given.names:
            continue
        began = time.monotonic()
        found, how = plant(mutant, given.episodes, given.stories, given.seed)
        seconds = time.monotonic() - began
        print(
            f"{'found ' if found else 'MISSED'} {mutant.name:24} {seconds:5.0f} s  {mutant.breaks}: {how}", flush=True
        )
        if not found:
            missed.append(mutant.name)
    return 1 if missed else 0


def plant(mutant: Mutant, episodes: int, stories: int, seed: int) -> tuple[bool, str]:
    """Return whether a story failed in a copy that has the defect, and how it showed itself first."""
    with tempfile.TemporaryDirectory(prefix="railwatch-mutant-") as name:
        copy = Path(name)
        copy.chmod(0o711)
        for part in PARTS:
            shutil.copytree(ROOT / part, copy / part, ignore=shutil.ignore_patterns("__pycache__"))
        source = copy / mutant.path
        text = source.read_text()
        if text.count(mutant.old) != mutant.places:
            return False, f"its place occurs {text.count(mutant.old)} times in {mutant.path}"
        source.write_text(text.replace(mutant.old, mutant.new))
        found, how = _play(copy, "--episode", mutant.episode, "--examples", str(episodes))
        if found or not stories:
            return found, how
        return _play(copy, "--no-shrink", "--seed", str(seed), "--examples", str(stories), "--batch", "50")


def _play(copy: Path, *arguments: str) -> tuple[bool, str]:
    command = [sys.executable, "-m", "tests.model", *arguments]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(copy / "indexer"), str(copy / "adapters")))}
    done = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True, check=False)
    lines = done.stdout.splitlines()
    shown = next((number for number, line in enumerate(lines) if line.startswith("first failure")), None)
    if shown is None:
        return False, "no story failed" if done.returncode == 0 else f"it did not run: {done.stderr[-300:]}"
    story = lines[shown].rpartition("-")[2].partition(".")[0].rstrip(":")
    return done.returncode == 1, f"story {story}: {lines[shown + 1][:160]}"


if __name__ == "__main__":
    sys.exit(main())
