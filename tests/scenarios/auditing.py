"""What `railwatch audit` says on a stage of any rail."""

from railwatch.cli.audit import _audit
from railwatch.config import Config
from railwatch.ops.audit import Audit


async def audited(config: Config, *, first: int | None = None) -> Audit:
    """The audit of the configuration's one rail, from a height on. Fails where the command would fail."""
    [audit], failures = await _audit(config, config.rails, first, None, None)
    assert not failures
    return audit
