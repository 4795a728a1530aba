"""Accounts as JSON, in each encoding."""

import base64
from collections.abc import Callable
from typing import Any

from solders.account import Account
from solders.pubkey import Pubkey

from railwatch_solana.dev.devnode import base58
from railwatch_solana.dev.devnode.errors import invalid
from railwatch_solana.dev.devnode.params import AccountConfig, Encoding
from railwatch_solana.dev.devnode.tokens import (
    PROGRAMS,
    WRAPPED_SOL,
    Mint,
    TokenAccount,
    mint,
    token_account,
    ui_amount,
)

BASE58_MAX = 128
"""Base58 of more bytes than this is refused, as by the real node."""


def show_account(
    account: Account | None, config: AccountConfig, default: Encoding, other: Callable[[Pubkey], Account | None]
) -> dict[str, Any] | None:
    """Return an account, None if there is none; ``other`` finds the mint of a token account. Raises `RpcError`."""
    if account is None:
        return None
    encoding = config.encoding or default
    shown = {
        "lamports": account.lamports,
        "owner": str(account.owner),
        "executable": account.executable,
        "rentEpoch": account.rent_epoch,
        "space": len(account.data),
    }
    parsed = _parsed(account, other) if encoding == "jsonParsed" else None
    shown["data"] = parsed if parsed is not None else _data(account.data, encoding, config)
    return shown


def _data(data: bytes, encoding: Encoding, config: AccountConfig) -> list[str]:
    part = config.data_slice
    if part is not None:
        data = data[part.offset : part.offset + part.length]
    if encoding == "base58":
        if len(data) > BASE58_MAX:
            raise invalid("Encoded binary (base 58) data should be less than 128 bytes, please use Base64 encoding.")
        return [base58.encode(data), "base58"]
    if encoding in ("base64", "jsonParsed"):
        return [base64.b64encode(data).decode(), "base64"]
    raise invalid(f"unsupported encoding: {encoding}")


def _parsed(account: Account, other: Callable[[Pubkey], Account | None]) -> dict[str, Any] | None:
    """Return the parsed form of the two kinds of account that this node can read; None means base64."""
    held, of = token_account(account), mint(account)
    if held is not None:
        its = mint(other(held.mint))
        parsed = {"type": "account", "info": _token_info(held, its.decimals if its else 0)}
    elif of is not None:
        parsed = {"type": "mint", "info": _mint_info(of)}
    else:
        return None
    return {"program": PROGRAMS[account.owner], "parsed": parsed, "space": len(account.data)}


def _token_info(held: TokenAccount, decimals: int) -> dict[str, Any]:
    return {
        "isNative": held.mint == WRAPPED_SOL,
        "mint": str(held.mint),
        "owner": str(held.owner),
        "state": held.state,
        "tokenAmount": ui_amount(held.amount, decimals),
    }


def _mint_info(of: Mint) -> dict[str, Any]:
    return {
        "decimals": of.decimals,
        "freezeAuthority": str(of.freeze_authority) if of.freeze_authority else None,
        "isInitialized": True,
        "mintAuthority": str(of.authority) if of.authority else None,
        "supply": str(of.supply),
    }
