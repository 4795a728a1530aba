"""Blocks and transactions as JSON, at each level of detail and in each encoding."""

import base64
from typing import Any

from solders.message import MessageV0, MessageV1

from railwatch_solana.dev.devnode import base58
from railwatch_solana.dev.devnode.block import Block, Landed
from railwatch_solana.dev.devnode.errors import VERSION, RpcError, invalid
from railwatch_solana.dev.devnode.explain import explain
from railwatch_solana.dev.devnode.params import BlockConfig, Encoding
from railwatch_solana.dev.devnode.transaction import AnyMessage, Incoming


def show_block(block: Block, config: BlockConfig) -> dict[str, Any]:
    """Return a block as ``getBlock`` answers.

    Raises `RpcError` (-32015) for a version above the one that is supported.
    """
    details = config.transaction_details or "full"
    shown: dict[str, Any] = {
        "previousBlockhash": str(block.previous),
        "blockhash": str(block.blockhash),
        "parentSlot": block.parent,
        "blockTime": block.time,
        "blockHeight": block.height,
    }
    if details == "full":
        shown["transactions"] = [show_landed(landed, config) for landed in block.landed]
    elif details == "accounts":
        shown["transactions"] = [_show_accounts(landed, config) for landed in block.landed]
    elif details == "signatures":
        shown["signatures"] = [landed.signature for landed in block.landed]
    if config.with_rewards:
        shown["rewards"] = []
    return shown


def show_landed(landed: Landed, config: BlockConfig) -> dict[str, Any]:
    """Return a transaction and its outcome. Raises `RpcError` (-32015)."""
    encoding = config.encoding or "json"
    shown = {"transaction": _show_transaction(landed.incoming, encoding), "meta": _show_meta(landed, config)}
    return shown | _version(landed.incoming, config)


def _version(incoming: Incoming, config: BlockConfig) -> dict[str, Any]:
    """Return the version's field. A client that names no highest version gets none."""
    highest, version = config.max_supported_transaction_version, incoming.version
    if version != "legacy" and (highest is None or highest < version):
        raise RpcError(
            VERSION,
            f"Transaction version ({version}) is not supported by the requesting client. Please try the request again "
            f'with the following configuration parameter: "maxSupportedTransactionVersion": {version}',
        )
    return {} if highest is None else {"version": version}


def _show_accounts(landed: Landed, config: BlockConfig) -> dict[str, Any]:
    """Keys and balances only: what a watcher of payments needs, at a fifth of the bytes."""
    incoming, meta = landed.incoming, landed.meta
    shown_meta = _outcome(landed) | {"preTokenBalances": meta.pre_tokens, "postTokenBalances": meta.post_tokens}
    if config.with_rewards:
        shown_meta["rewards"] = []
    transaction = {"signatures": _signatures(incoming), "accountKeys": _account_keys(incoming)}
    return {"transaction": transaction, "meta": shown_meta} | _version(incoming, config)


def _outcome(landed: Landed) -> dict[str, Any]:
    meta = landed.meta
    return {
        "err": meta.err,
        "status": {"Ok": None} if meta.err is None else {"Err": meta.err},
        "fee": meta.fee,
        "preBalances": meta.pre_balances,
        "postBalances": meta.post_balances,
    }


def _show_meta(landed: Landed, config: BlockConfig) -> dict[str, Any]:
    incoming, meta = landed.incoming, landed.meta
    shown = _outcome(landed) | {
        "preTokenBalances": meta.pre_tokens,
        "postTokenBalances": meta.post_tokens,
        "innerInstructions": meta.inner,
        "logMessages": meta.logs,
        "rewards": [] if config.with_rewards else None,
        "computeUnitsConsumed": meta.units,
    }
    if config.encoding == "jsonParsed":
        shown["innerInstructions"] = [
            {
                "index": group.index,
                "instructions": [
                    explain(
                        incoming.keys, call.program_id_index, call.accounts, base58.decode(call.data), call.stack_height
                    )
                    for call in group.instructions
                ],
            }
            for group in meta.inner
        ]
    else:
        shown["loadedAddresses"] = {
            "writable": [str(key) for key in incoming.writable],
            "readonly": [str(key) for key in incoming.readonly],
        }
    if meta.returned is not None:
        program, data = meta.returned
        shown["returnData"] = {"programId": str(program), "data": [base64.b64encode(data).decode(), "base64"]}
    return shown


def _signatures(incoming: Incoming) -> list[str]:
    return [str(signature) for signature in incoming.tx.signatures]


def _show_transaction(incoming: Incoming, encoding: Encoding) -> Any:
    if encoding == "base64":
        return [base64.b64encode(incoming.raw).decode(), "base64"]
    if encoding == "base58":
        return [base58.encode(incoming.raw), "base58"]
    if encoding not in ("json", "jsonParsed"):
        raise invalid(f"unsupported encoding: {encoding}")
    message = incoming.tx.message
    shown = _parsed_message(incoming) if encoding == "jsonParsed" else _raw_message(message)
    shown["recentBlockhash"] = str(message.recent_blockhash)
    if isinstance(message, MessageV0):
        shown["addressTableLookups"] = [
            {
                "accountKey": str(lookup.account_key),
                "writableIndexes": list(lookup.writable_indexes),
                "readonlyIndexes": list(lookup.readonly_indexes),
            }
            for lookup in message.address_table_lookups
        ]
    if isinstance(message, MessageV1):
        config = message.config
        shown["transactionConfig"] = {
            "priorityFee": config.priority_fee,
            "computeUnitLimit": config.compute_unit_limit,
            "loadedAccountsDataSizeLimit": config.loaded_accounts_data_size_limit,
            "heapSize": config.heap_size,
        }
    return {"signatures": _signatures(incoming), "message": shown}


def _raw_message(message: AnyMessage) -> dict[str, Any]:
    header = message.header
    return {
        "header": {
            "numRequiredSignatures": header.num_required_signatures,
            "numReadonlySignedAccounts": header.num_readonly_signed_accounts,
            "numReadonlyUnsignedAccounts": header.num_readonly_unsigned_accounts,
        },
        "accountKeys": [str(key) for key in message.account_keys],
        "instructions": [
            {
                "programIdIndex": done.program_id_index,
                "accounts": list(done.accounts),
                "data": base58.encode(bytes(done.data)),
                "stackHeight": 1,
            }
            for done in message.instructions
        ],
    }


def _parsed_message(incoming: Incoming) -> dict[str, Any]:
    instructions = [
        explain(incoming.keys, done.program_id_index, list(done.accounts), bytes(done.data), 1)
        for done in incoming.tx.message.instructions
    ]
    return {"accountKeys": _account_keys(incoming), "instructions": instructions}


def _account_keys(incoming: Incoming) -> list[dict[str, Any]]:
    """Every key with its rights: signers come before others, and in each of the two, writable before readonly."""
    header = incoming.tx.message.header
    signers = header.num_required_signatures
    static = len(incoming.keys) - len(incoming.writable) - len(incoming.readonly)
    writable_signers = signers - header.num_readonly_signed_accounts
    writable_others = static - header.num_readonly_unsigned_accounts
    loaded = static + len(incoming.writable)
    return [
        {
            "pubkey": str(key),
            "signer": index < signers,
            "source": "transaction" if index < static else "lookupTable",
            "writable": index < writable_signers or signers <= index < writable_others or static <= index < loaded,
        }
        for index, key in enumerate(incoming.keys)
    ]
