"""Finding what a command names, or saying that it is not there."""

import re
from uuid import UUID

from railwatch.cli.errors import NotFound
from railwatch.config import Config, RailConfig
from railwatch.store.database import Database
from railwatch.store.read_models import Dossier, find_exceptions, find_invoices, read_dossier


async def invoice_id(database: Database, reference: str) -> UUID:
    """The invoice that an id, ``merchant/order``, a transaction or an address names. Raises `NotFound`, also when it
    names several.
    """
    found = await find_invoices(database, reference)
    if not found:
        raise NotFound(
            f'there is no invoice "{reference}"; give its id or MERCHANT/ORDER (see `railwatch invoice list`), '
            "a transaction or an address"
        )
    if len(found) > 1:
        raise NotFound(f'"{reference}" may mean any of {", ".join(map(str, found))}; give one of these ids')
    return found[0]


async def exception_id(database: Database, reference: str) -> UUID:
    """The exception that an id, or the first digits of one, names. Raises `NotFound`, also when they name several."""
    known = re.fullmatch(r"[0-9a-f-]{4,36}", reference.lower())
    found = await find_exceptions(database, known[0]) if known else []
    if not found:
        raise NotFound(f'there is no exception "{reference}"; give its id, as `railwatch exceptions list` shows it')
    if len(found) > 1:
        raise NotFound(f'"{reference}" may mean any of {", ".join(map(str, found))}; give more of the id')
    return found[0]


async def dossier(database: Database, reference: str) -> Dossier:
    """All that is known of the invoice that a UUID or ``merchant/order`` names. Raises `NotFound`."""
    found = await read_dossier(database, await invoice_id(database, reference))
    if found is None:  # Nothing deletes invoices but an operator at the tables, and he may do so at any moment.
        raise NotFound(f'there is no invoice "{reference}" any more')
    return found


def rail_config(config: Config, name: str) -> RailConfig:
    """The configured rail of that name. Raises `NotFound`."""
    rail = config.rail(name)
    if rail is None:
        raise NotFound(f'there is no rail "{name}"; configured are {", ".join(each.name for each in config.rails)}')
    return rail
