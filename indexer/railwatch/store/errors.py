"""What can go wrong with the database, by what the daemon does next."""


class StoreError(Exception):
    """Base of what the store raises; the message says what, where and what to do."""


class StoreUnavailable(StoreError):
    """Postgres is unavailable, restarting, full or read-only. Nothing was written; repeat the whole step later."""


class LeaseLost(StoreError):
    """Another daemon has acquired the rail, or the cursor is not where this one left it. Nothing was written."""


class BranchChanged(StoreError):
    """A reorg came between scan and commit. Nothing was written; scan again."""


class SchemaMismatch(StoreError):
    """The database's schema is not the one that this version knows."""


class Refused(StoreError):
    """A function of the contract refused its input. ``code`` is the SQLSTATE (class RW), ``hint`` what to do."""

    def __init__(self, message: str, code: str, hint: str | None) -> None:
        super().__init__(message)
        self.code = code
        self.hint = hint
