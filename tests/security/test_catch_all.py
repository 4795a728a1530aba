"""Every place that catches whatever comes is known, and says what becomes of it: nothing vanishes without a trace.

A cancellation always goes on, and so does a defect of ours, or its trace is logged and it is counted. The places are
found by reading the code: a new one fails here until it is explained.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
EVERYTHING = {"Exception", "BaseException", "CancelledError", "BaseExceptionGroup", "ExceptionGroup"}
LOGGED = {
    "indexer/railwatch/daemon/follow/isolation.py:by_halves": (
        "of several things that fail together each half is tried, and the caller logs the one at fault"
    ),
    "indexer/railwatch/daemon/nodes/node.py:Node._guarded": (
        "what a node's answer makes an adapter raise is that node's fault; its rail's metrics and reason show it"
    ),
    "indexer/railwatch/daemon/nodes/node_set.py:NodeSet.parse_address": "one address that breaks the parser is "
    "refused by name",
    "indexer/railwatch/daemon/follow/readmission.py:Readmission._retry": (
        "an invoice stays in quarantine, which is counted, and its row says why"
    ),
    "indexer/railwatch/daemon/follow/committer.py:Committer._commit": (
        "the step is done again with each invoice apart; what fails then is raised, or goes into quarantine"
    ),
    "indexer/railwatch/daemon/watch/registrar.py:Registrar._reject_unpayable": (
        "one destination is set aside; its row says why, and it is tried again"
    ),
    "indexer/railwatch/daemon/watch/registrar.py:Registrar._readable": "the same",
    "indexer/railwatch/daemon/watch/rescan.py:Rescanner.turn": "one rescan fails by name; its row says why",
    "indexer/railwatch/daemon/rail_runner.py:RailRunner.run": (
        "the rail starts again, later each time, and halts if that does not help; counted as a task's failure"
    ),
    "indexer/railwatch/webhooks/worker.py:EndpointWorker._attempt": (
        "the attempt has failed, is counted as one, and is made again"
    ),
    "indexer/railwatch/ops/listener.py:Listening._respond": (
        "a page that cannot be made is a 500; counted, and logged once a minute"
    ),
    "indexer/railwatch/supervision.py:_ends_in_order": "a task starts again; counted by its name",
    "adapters/railwatch_solana/dev/devnode/rpc.py:answered": "a development node: one odd request ends no other",
}
"""Places that log the trace, and what becomes of the failure. A place that ends by raising it again needs no words."""
ELSEWHERE = {
    "indexer/railwatch/rail/boundary.py:only_rail_errors.bounded": (
        "raised as AdapterDefect with its cause, which `Node._guarded` logs"
    ),
    "indexer/railwatch/ops/audit.py:Auditor._read_span": (
        "raised with its cause as what `railwatch audit` could not compare, by node and kind"
    ),
    "indexer/railwatch/daemon/registry.py:load_adapter": (
        "raised with its cause: a third party's package that cannot be imported"
    ),
    "indexer/railwatch/daemon/registry.py:create_adapter": (
        "raised with its cause: a third party's package that fails at its table"
    ),
    "indexer/railwatch/cli/errors.py:Railwatch.invoke": "a command ends with the trace on stderr",
    "indexer/railwatch/replay/virtual_time.py:VirtualLoop.run_in_executor": "handed to the waiter of the future",
    "indexer/railwatch/conformance/failures.py:Failing.__await__": "handed on to the coroutine that is driven",
    "indexer/railwatch/daemon/supervisor.py:run_daemon": "the daemon's own work, which has ended by our cancelling it",
    "adapters/railwatch_solana/dev/devnode/guard.py:contained": "raised again, a panic of the library's as Panicked",
}
"""Places that log nothing, and where the failure goes."""


def caught(path: Path) -> Iterator[tuple[str, bool, bool]]:
    """Each place that catches everything or a cancellation: its name, whether it raises again, and logs a trace."""

    def walk(node: ast.AST, names: tuple[str, ...]) -> Iterator[tuple[str, bool, bool]]:
        for child in ast.iter_child_nodes(node):
            inner = names
            if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                inner = (*names, child.name)
            if isinstance(child, ast.ExceptHandler) and catches_everything(child.type):
                yield ".".join(names), raises_again(child), logs_its_trace(child)
            if (
                isinstance(child, ast.Call)
                and last_name(child.func) == "suppress"
                and any(map(catches_everything, child.args))
            ):
                yield ".".join(names), False, False
            yield from walk(child, inner)

    yield from walk(ast.parse(path.read_text()), ())


def catches_everything(kind: ast.expr | None) -> bool:
    """Whether an except clause or an argument of `suppress` names everything, or a cancellation."""
    if kind is None:
        return True
    if isinstance(kind, ast.Tuple):
        return any(map(catches_everything, kind.elts))
    return last_name(kind) in EVERYTHING


def last_name(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def raises_again(handler: ast.ExceptHandler) -> bool:
    """Whether it ends by raising what it caught, and does so in every case."""
    last = handler.body[-1]
    return isinstance(last, ast.Raise) and last.exc is None


def logs_its_trace(handler: ast.ExceptHandler) -> bool:
    """Whether it logs the trace, or hands the failure to something that does, which the tests of that show."""
    calls = [each for each in ast.walk(handler) if isinstance(each, ast.Call)]
    return any(
        last_name(each.func) in ("exception", "_log_once", "_set_aside", "_failed", "_start_again")
        or any(word.arg == "exc_info" for word in each.keywords)
        for each in calls
    )


def places() -> dict[str, tuple[bool, bool]]:
    found: dict[str, tuple[bool, bool]] = {}
    for root in ("indexer", "adapters"):
        for path in sorted((ROOT / root).rglob("*.py")):
            for name, again, logs in caught(path):
                key = f"{path.relative_to(ROOT)}:{name}"
                before = found.get(key, (True, True))
                found[key] = (before[0] and again, before[1] and (logs or again))
    return {key: (again, logs) for key, (again, logs) in found.items() if not again}


def test_every_place_that_catches_everything_says_what_becomes_of_it() -> None:
    found = places()
    assert not LOGGED.keys() & ELSEWHERE.keys()
    assert sorted(found) == sorted({*LOGGED, *ELSEWHERE}), "say here what becomes of it, or let it go on"
    silent = [key for key in LOGGED if not found[key][1]]
    assert not silent, f"log the trace: {silent}"


def test_no_cancellation_is_suppressed_but_of_a_task_that_has_ended() -> None:
    """A task that is cancelled and waited for is ended by `railwatch.cancellation.end`, which lets our own go on."""
    found = {
        f"{path.relative_to(ROOT)}:{number}"
        for root in ("indexer", "adapters")
        for path in (ROOT / root).rglob("*.py")
        for number, line in enumerate(path.read_text().splitlines())
        if "suppress(" in line and "CancelledError" in line
    }
    assert {each.partition(":")[0] for each in found} == {"indexer/railwatch/daemon/supervisor.py"}
