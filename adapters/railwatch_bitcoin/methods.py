"""The whitelist: every method that this adapter may ask of a node, and no other. README.md carries the same table."""

from railwatch.rail import Method

ALLOW = "allow it (rpcwhitelist in the node's settings, or the plan of a hosted node)"
FILTERS = "blockfilterindex=1 (Bitcoin Core and its heirs)"

METHODS = (
    Method("getblockhash", "which chain it is, which block is canonical", "", ALLOW),
    Method("getblockchaininfo", "heads", "", ALLOW),
    Method("getblockheader", "headers", "", ALLOW),
    Method("getblock", "the content of blocks", "", ALLOW),
    Method("getblockfilter", "short look-backs", "look-backs read whole blocks", FILTERS),
    Method("getrawmempool", "payments that wait for a block", "payments are first seen in a block", ALLOW),
    Method("getrawtransaction", "payments that wait for a block", "payments are first seen in a block", ALLOW),
    Method("getmempoolinfo", "seeing that the mempool is loaded", "it counts as loaded", ALLOW),
    Method("getzmqnotifications", "which topics zmq has", "all topics are subscribed to", ALLOW),
    Method("getbestblockhash", "seeing that zmq is silent", "the daemon polls", ALLOW),
    Method("waitfornewblock", "being woken without zmq", "the daemon polls", ALLOW),
    Method("getpeerinfo", "having a pruned block fetched again", "pruned blocks are not read", ALLOW),
    Method(
        "getblockfrompeer",
        "having a pruned block fetched again",
        "pruned blocks are not read",
        "Bitcoin Core 23 or newer; allow it",
    ),
)
