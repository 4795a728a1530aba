"""Instructions in words, for ``jsonParsed``: the few that move money. All others are shown raw, as unknown ones are."""

import struct
from collections.abc import Sequence
from typing import Any

from solders.pubkey import Pubkey

from railwatch_solana.dev.devnode import base58
from railwatch_solana.dev.devnode.tokens import PROGRAMS, ui_amount

SYSTEM = Pubkey.default()
ASSOCIATED = Pubkey.from_string("ATokenGPvbdGVxr1b2hvZbsiqW5xWH25efTNsLJA8knL")


def explain(
    keys: Sequence[Pubkey], program_index: int, accounts: Sequence[int], data: bytes, stack_height: int | None
) -> dict[str, Any]:
    """One instruction; ``accounts`` are indexes into ``keys``."""
    program = keys[program_index]
    named = [str(keys[index]) for index in accounts]
    shown: dict[str, Any] = {"programId": str(program), "stackHeight": stack_height}
    try:
        parsed = _parsed(program, named, data)
    except (IndexError, struct.error):
        # Too few accounts or bytes: the instruction has failed, and its meaning is unknown.
        parsed = None
    if parsed is None:
        return shown | {"accounts": named, "data": base58.encode(data)}
    name, kind, info = parsed
    return shown | {"program": name, "parsed": {"type": kind, "info": info}}


def _parsed(program: Pubkey, named: list[str], data: bytes) -> tuple[str, str, dict[str, Any]] | None:
    if program == SYSTEM:
        return _system(named, data)
    if program in PROGRAMS:
        return _token(PROGRAMS[program], named, data)
    if program == ASSOCIATED:
        return _associated(named, data)
    return None


def _u64(data: bytes, at: int) -> int:
    value: int = struct.unpack_from("<Q", data, at)[0]
    return value


def _system(named: list[str], data: bytes) -> tuple[str, str, dict[str, Any]] | None:
    (kind,) = struct.unpack_from("<I", data)
    if kind == 2:
        return "system", "transfer", {"source": named[0], "destination": named[1], "lamports": _u64(data, 4)}
    if kind == 0:
        info = {
            "source": named[0],
            "newAccount": named[1],
            "lamports": _u64(data, 4),
            "space": _u64(data, 12),
            "owner": base58.encode(data[20:52]),
        }
        return "system", "createAccount", info
    return None


def _token(program: str, named: list[str], data: bytes) -> tuple[str, str, dict[str, Any]] | None:
    kind = data[0]
    if kind == 3:
        info = {"source": named[0], "destination": named[1], "authority": named[2], "amount": str(_u64(data, 1))}
        return program, "transfer", info
    if kind == 12:
        amount = ui_amount(_u64(data, 1), data[9])
        info = {"source": named[0], "mint": named[1], "destination": named[2], "authority": named[3]}
        return program, "transferChecked", info | {"tokenAmount": amount}
    if kind == 7:
        info = {"mint": named[0], "account": named[1], "mintAuthority": named[2], "amount": str(_u64(data, 1))}
        return program, "mintTo", info
    return None


def _associated(named: list[str], data: bytes) -> tuple[str, str, dict[str, Any]] | None:
    names = ("source", "account", "wallet", "mint", "systemProgram", "tokenProgram")
    if len(named) < len(names) or data[:1] not in (b"", b"\0", b"\1"):
        return None
    kind = "createIdempotent" if data[:1] == b"\1" else "create"
    return "spl-associated-token-account", kind, dict(zip(names, named, strict=False))
