"""What `railwatch audit` says on a stage of any rail."""

from indexer.cli.audit import _audit
from indexer.config import Config
from indexer.ops.audit import Audit


async def audited(config: Config, *, first: int | None = None) -> Audit:
    """The audit of the configuration's one rail, from a height on. Fails where the command would fail."""
    [audit], failures = await _audit(config, config.rails, first, None, None)
    assert not failures
    return audit
