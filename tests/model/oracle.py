"""What the tables must say at the end of a story, worked out from the chain and the acts, as simply as possible.

The chain says which transfers there are and how deep. The acts say what was asked, waived and decided. From the feed
the oracle takes only the order of things that no chain can tell: whether a transfer was seen before a cancellation.
"""

from tests.model.feed import feed_differences
from tests.model.invoices import Expected
from tests.model.tables import Tables
from tests.model.transfers import inclusion_differences, lost_differences
from tests.model.world import World


def differences(world: World, tables: Tables, *, rescanned: bool = True) -> list[str]:
    """Return every way in which the tables differ from what must be; empty: all is well.

    ``rescanned``: all blocks were looked through again. Else what no look-back has promised to find may be missing.
    """
    return [
        *feed_differences(world, tables),
        *inclusion_differences(world, tables, rescanned),
        *lost_differences(world, tables),
        *(each for order in world.acts.orders for each in Expected(world, tables, order).differences()),
    ]
