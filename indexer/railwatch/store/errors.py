"""What can go wrong with the database, by what the daemon does next."""


class StoreError(Exception):
    """Base of what the store raises; the message says what, where and what to do."""


class StoreUnavailable(StoreError):
    """Postgres is away, restarting, full or read-only. Nothing was written; do the whole step again later."""


class LeaseLost(StoreError):
    """Another daemon has taken the rail, or the cursor is not where this one left it. Nothing was written."""


class BranchChanged(StoreError):
    """What was found is not on the branch that the rail follows now. Nothing was written; look again."""


class SchemaMismatch(StoreError):
    """The database's schema is not the one that this version knows."""


class Refused(StoreError):
    """A function of the contract refused its input. ``code`` is the SQLSTATE (class RW), ``hint`` what to do."""

    def __init__(self, message: str, code: str, hint: str | None) -> None:
        super().__init__(message)
        self.code = code
        self.hint = hint
