"""Lookups of the invoices, exceptions, transfers and rails that a command names."""

import re
from uuid import UUID

from railwatch.cli.errors import NotFound
from railwatch.config import Config, RailConfig
from railwatch.store.database import Database
from railwatch.store.read_models import Dossier, find_exceptions, find_invoices, find_unallocated, read_dossier


async def invoice_id(database: Database, reference: str) -> UUID:
    """Return the invoice that an id, ``merchant/order``, a transaction or an address names.

    Raises `NotFound` for none or several.
    """
    found = await find_invoices(database, reference)
    if not found and (unallocated := await find_unallocated(database, reference)):
        raise NotFound(
            f'"{reference}" is a transfer that carries the reference of no invoice; see it with: '
            f"railwatch unallocated show {unallocated[0]}"
        )
    if not found:
        raise NotFound(
            f'there is no invoice "{reference}"; give its id or MERCHANT/ORDER (see railwatch invoice list), '
            "a transaction or an address"
        )
    if len(found) > 1:
        raise NotFound(f'"{reference}" matches {", ".join(map(str, found))}; give one of these ids')
    return found[0]


async def exception_id(database: Database, reference: str) -> UUID:
    """Return the exception that an id, or at least its first 4 digits, names. Raises `NotFound` for none or several."""
    known = re.fullmatch(r"[0-9a-f-]{4,36}", reference.lower())
    found = await find_exceptions(database, known[0]) if known else []
    if not found:
        raise NotFound(f'there is no exception "{reference}"; give its id, as shown by railwatch exceptions list')
    if len(found) > 1:
        raise NotFound(f'"{reference}" matches {", ".join(map(str, found))}; give more digits of the id')
    return found[0]


async def transfer_id(database: Database, reference: str) -> UUID:
    """Return the unallocated transfer that an id, its first 4 digits or its transaction names.

    Raises `NotFound` for none or several.
    """
    found = await find_unallocated(database, reference)
    if not found:
        raise NotFound(
            f'there is no unallocated transfer "{reference}"; give its id, as shown by railwatch unallocated list'
        )
    if len(found) > 1:
        raise NotFound(f'"{reference}" matches {", ".join(map(str, found))}; give one of these ids')
    return found[0]


async def dossier(database: Database, reference: str) -> Dossier:
    """Return all data of the invoice that ``reference`` names, as `invoice_id` finds it. Raises `NotFound`."""
    found = await read_dossier(database, await invoice_id(database, reference))
    if found is None:  # An operator may delete rows at any moment; Railwatch never does.
        raise NotFound(f'there is no invoice "{reference}" any more')
    return found


def rail_config(config: Config, name: str) -> RailConfig:
    """Return the configured rail of that name. Raises `NotFound`."""
    rail = config.rail(name)
    if rail is None:
        names = ", ".join(rail.name for rail in config.rails)
        raise NotFound(f'there is no rail "{name}"; give one of the configured rails: {names}')
    return rail
