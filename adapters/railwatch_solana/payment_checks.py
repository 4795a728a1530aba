"""What could never be paid as a registration asks for it, and why: words for the merchant's engineer. Pure."""

from railwatch.rail import Address, BadAddress
from railwatch_solana.account_index import PROGRAMS
from railwatch_solana.address import key_of
from railwatch_solana.wire import Account


def bad_reference(reference: str) -> str | None:
    """Return why a text cannot be a reference, which is a key among a transaction's keys (HAZARDS S12); else None."""
    try:
        key_of(reference)
    except BadAddress as bad:
        return f"the reference can never be among a transaction's keys: {bad}"
    return None


def not_an_owner(address: Address, account: Account | None) -> str | None:
    """Tokens belong to the owner of their account, so what is paid to a token account is not paid to its address."""
    if account is None or account.owner not in PROGRAMS:
        return None
    return (
        f"{address.text} is an account of the token program {account.owner} (a token account, or a mint), and what is "
        "paid to it belongs to its owner: give the address of that owner, the wallet"
    )


def less_than_rent(address: Address, amount: int, balance: int, rent: int) -> str | None:
    """Return why a payment would leave an account with less than its rent, which the network refuses; else None."""
    if balance + amount >= rent:
        return None
    return (
        f"{amount} lamports cannot arrive at {address.text}, which holds {balance}: an account must hold at least "
        f"{rent} (its rent), and the network refuses the payment; ask for {rent - balance} or more"
    )
