"""What lives as long as its process has a bound: every collection of the code is in docs/security.md, or ends soon.

A dict, list or set that an object or a module holds is found by reading the code. One that is made for a step, an
answer or a command, and ends with it, is named here.
"""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from railwatch.daemon.follow.isolation import ASIDE_MOST, Aside

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/security.md").read_text()
COLLECTIONS = frozenset(
    {
        *("dict", "list", "set", "deque", "OrderedDict", "defaultdict", "Counter", "bytearray"),
        *("Queue", "PriorityQueue", "LifoQueue", "WeakKeyDictionary", "WeakValueDictionary", "WeakSet"),
    }
)
ELSEWHERE = ("cli", "config", "conformance", "core", "demo", "replay", "devnode", "railwatch_fake")
"""Packages whose objects end with a command, a step or a test."""
DEVELOPMENT = ("simulator", "demo", "wallet")
SOON = {
    "railwatch.daemon.balance_reconciler.CanonicalChecker._known": "one reading of some balances",
    "railwatch.daemon.watch.watchlist.ExplicitWatches.spends": "one look-back",
    "railwatch.ops.check_database.Stored.rails": "one `railwatch check`",
    "railwatch.ops.check_database.Stored.left": "one `railwatch check`",
    "railwatch.ops.check_database.Stored.wanted": "one `railwatch check`",
    "railwatch.rail.options.HttpOptions.headers": "the configuration of one node",
    "railwatch.rail.types.RailSettings.options": "the configuration of one rail",
    "railwatch.rail.types.Transfer.evidence": "one transfer of an answer",
    "railwatch.store.config_sync.RailMirror.min_amounts": "the configuration of one rail",
    "railwatch.store.scratch.ScratchDatabase._settings": "the settings of one connection",
    **{
        f"railwatch_bitcoin.block.Block.{name}": "one block"
        for name in ("coins", "_scripts", "_extents", "_first_coins", "_first_scripts", "_places")
    },
    "railwatch_bitcoin.peers.Peer.servicesnames": "one answer",
    "railwatch_bitcoin.zmq_subscriber.ZmqBatch.changes": "some messages that were there at once",
    "railwatch_evm.chains.KnownChain.landmarks": "a table of the code",
    "railwatch_evm.fold.Folded.pieces": "one answer",
    "railwatch_evm.traces.Failed._root": "one transaction's trace",
    "railwatch_evm.traces.Names._root": "one transaction's trace",
    "railwatch_solana.decode._Holding.each": "one transaction",
}
"""Collections that are attributes, and what they end with."""


def held(path: Path) -> Iterator[str]:
    """Names of the attributes and of the module's own names that begin as a collection."""
    tree = ast.parse(path.read_text())
    for owner in (node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)):
        for target, value in assignments(ast.walk(owner)):
            if isinstance(target, ast.Attribute) and name_of(target.value) == "self" and is_collection(value):
                yield f"{owner.name}.{target.attr}"
        for target, value in assignments(owner.body):
            if isinstance(target, ast.Name) and is_collection(value):
                yield f"{owner.name}.{target.id}"
    for target, value in assignments(tree.body):
        if isinstance(target, ast.Name) and is_collection(value):
            yield target.id


def assignments(nodes: "Iterator[ast.AST] | list[ast.stmt]") -> Iterator[tuple[ast.expr, ast.expr]]:
    """Targets with their values."""
    for node in nodes:
        if isinstance(node, ast.AnnAssign) and node.value is not None:
            yield node.target, node.value
        elif isinstance(node, ast.Assign):
            yield node.targets[0], node.value


def name_of(node: ast.expr) -> str:
    """The last name of an expression such as ``asyncio.Queue[int]``."""
    if isinstance(node, ast.Subscript):
        return name_of(node.value)
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def is_collection(value: ast.expr) -> bool:
    """Whether it is a collection that can grow, or a field that begins as one."""
    if isinstance(value, ast.Dict | ast.List | ast.Set | ast.DictComp | ast.ListComp | ast.SetComp):
        return True
    if not isinstance(value, ast.Call):
        return False
    factories = [each.value for each in value.keywords if each.arg == "default_factory"]
    return name_of(value.func) in COLLECTIONS or any(
        name_of(each) in COLLECTIONS or (isinstance(each, ast.Lambda) and is_collection(each.body))
        for each in factories
    )


def found() -> set[str]:
    """Every such name of the daemon, the deliverer and the adapters, constants in tables left out."""
    names = set()
    for root in ("indexer", "adapters"):
        for path in sorted((ROOT / root).rglob("*.py")):
            parts = path.relative_to(ROOT / root).with_suffix("").parts
            if set(parts) & set(ELSEWHERE) or parts[-1] in DEVELOPMENT:
                continue
            names |= {f"{'.'.join(parts)}.{name}" for name in held(path) if not is_constant(path, name)}
    return names


def is_constant(path: Path, name: str) -> bool:
    """Return True if it is written like a constant, and never changed in its module."""
    last = name.rpartition(".")[2]
    if not last.strip("_").isupper() and last != "__all__":
        return False
    changes = rf"\b{last}(\[[^\]]+\] ?=[^=]|\.(append|add|update|setdefault|pop|extend|insert)\()"
    return not re.search(changes, path.read_text())


def test_every_collection_that_lasts_is_in_the_table_with_its_bound() -> None:
    table = PAGE.partition("\n## What the process keeps in memory\n")[2].partition("\n## ")[0]
    explained = set(re.findall(r"`(railwatch(?:_[a-z]+)?\.[\w.]+)`", table))
    assert not explained & SOON.keys()
    assert found() - SOON.keys() == explained, "say in docs/security.md what bounds it, or in SOON what it ends with"
    assert SOON.keys() <= found(), "it is not there any more"


def test_what_is_set_aside_is_not_remembered_without_end() -> None:
    aside: Aside[int] = Aside()
    for number in range(ASIDE_MOST + 500):
        aside.put(number)
    assert len(aside.waiting) == ASIDE_MOST
    assert 0 not in aside.waiting
    assert ASIDE_MOST + 499 in aside.waiting
    assert aside.put(ASIDE_MOST) > aside.put(0), "what was forgotten begins anew"


HOLDING = """

from railwatch.allocator import give_large_blocks_back
from tests.fuzz.nodes.monitor import resident_mib
import sys
if sys.argv[1] == "released" and not give_large_blocks_back():
    print("none"); raise SystemExit
bytearray(24 << 20)  # from here on glibc would allocate blocks of up to this size out of its heap
kept, before = [], resident_mib()
for _ in range(8):
    large = bytearray(4 << 20)
    kept.append(bytearray(100_000))  # what is in use between them
    for at in range(0, len(large), 4096):
        large[at] = 1
    kept.append(large)
kept = [each for each in kept if len(each) == 100_000]
print(resident_mib() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the allocator of Linux' C library is meant")
def test_the_memory_of_large_answers_goes_back_to_the_system() -> None:
    def grown(how: str) -> str:
        command = [sys.executable, "-c", HOLDING, how]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()

    growth = grown("released")
    if growth == "none":
        pytest.skip("there is no glibc here")
    assert float(growth) < 8, "32 MiB were given back"
