"""CashTokens: what Bitcoin Cash may put before an output's script (CHIP-2022-02). Pure."""

from railwatch_bitcoin.encoding import compact_size, display_hash

TOKEN_PREFIX = b"\xef"


def split_token(script: bytes) -> tuple[str | None, bytes]:
    """Return a CashToken's category and the script after its prefix; None and the whole script without a token.

    CHIP-2022-02: 0xef, the category, a byte of structure and capability, the commitment, the amount. A prefix that
    breaks its rules is no prefix, but the beginning of a script that cannot be satisfied.
    """
    if script[:1] != TOKEN_PREFIX or len(script) < 34:
        return None, script
    structure, capability = script[33] & 0xF0, script[33] & 0x0F
    commitment, nft, amount = structure & 0x40, structure & 0x20, structure & 0x10
    if structure & 0x80 or capability > 2 or not (nft or amount) or (not nft and (commitment or capability)):
        return None, script
    at = 34
    try:
        if commitment:
            size, at = compact_size(script, at)
            at += size
            if not size:
                return None, script
        if amount:
            tokens, at = compact_size(script, at)
            if not 0 < tokens < 1 << 63:
                return None, script
    except (IndexError, ValueError):
        return None, script
    return (display_hash(script[1:33]), script[at:]) if at <= len(script) else (None, script)
