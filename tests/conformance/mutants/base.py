"""How an adapter is broken on purpose: a small subclass of the reference, marked with the checks that must catch it."""

from dataclasses import replace
from typing import Any

from railwatch_fake import FakeAdapter, Rules
from railwatch_fake.dev.simulator import FakeSimulator

BREAKAGES: list[Any] = []


def caught_by(*checks):
    """Mark a breakage with the names of the checks (less ``test_``) that have to fail on it."""

    def mark(breakage):
        breakage.checks = tuple(f"test_{check}" for check in checks)
        BREAKAGES.append(breakage)
        return breakage

    return mark


class Broken(FakeAdapter):
    """The reference adapter, and the rules of the chain that it is broken on."""

    checks: tuple[str, ...]
    rules = Rules()

    @classmethod
    def simulator(cls):
        """Return the simulator that the check is given."""
        return BrokenSimulator(cls)

    def spoil(self, found, span, watches):
        """Return what becomes of the transfers that a right scan found."""
        return found

    async def scan(self, span, watches):
        scanned = await super().scan(span, watches)
        return replace(scanned, transfers=self.spoil(list(scanned.transfers), span, watches))


class BrokenSimulator(FakeSimulator):
    """A right simulator of a broken adapter."""

    def __init__(self, breakage):
        super().__init__(breakage.rules)
        self.breakage = breakage

    def open_adapter(self):
        return self.breakage(self.node, self.chain.chain_id, timeout=0.2)


class Everybody:
    """A watch list that every address is on."""

    def __init__(self, watches):
        self.assets, self.spends, self.version = watches.assets, watches.spends, watches.version

    def __len__(self):
        return 1

    def hits(self, keys):
        return set(keys)

    def keys_up_to(self, limit):
        return None
