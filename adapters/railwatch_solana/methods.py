"""The whitelist: every method that this adapter may ask of a node, and no other. README.md carries the same table."""

from railwatch.rail import Method

PLAN = "allow it in the endpoint's plan"
HISTORY = "a Firedancer node serves none; Agave does with --enable-rpc-transaction-history, a hosted one by its plan"
FULL = "--full-rpc-api (Agave), or the endpoint's plan"
BLOCKS = "look-backs read whole blocks"

METHODS = (
    Method("getGenesisHash", "which chain it is", "", PLAN),
    Method("getLatestBlockhash", "heads", "", PLAN),
    Method("getSlot", "heads", "", PLAN),
    Method("getBlock", "the content of blocks", "", HISTORY),
    Method("getBlocks", "which slots have blocks", "", HISTORY),
    Method("getBlocksWithLimit", "proving that a slot was skipped", "getBlocks is asked instead", HISTORY),
    Method("getHealth", "seeing that the node falls behind", "its slots show it", PLAN),
    Method("getFirstAvailableBlock", "where the ledger begins", "it is where the list of blocks begins", PLAN),
    Method("getTokenAccountsByOwner", "short look-backs", BLOCKS, FULL),
    Method("getSignaturesForAddress", "short look-backs", BLOCKS, HISTORY),
    Method("getTransaction", "short look-backs", BLOCKS, HISTORY),
    Method("getMultipleAccounts", "token transfers in blocks of before 2022", "such blocks halt the rail", FULL),
    Method("getAccountInfo", "refusing a token account as an address", "it is not checked", FULL),
    Method("getMinimumBalanceForRentExemption", "refusing amounts below the rent", "it is not checked", FULL),
    Method("slotSubscribe", "being woken, over ws", "the daemon polls", "serve websockets, or leave ws out"),
)
