"""The whitelist: every method that this adapter may ask of a node, and no other. README.md carries the same table.

``ETH`` and ``TRACE`` name the settings of a node's own: a hosted endpoint has its plan in their place.
"""

from railwatch.rail import Method

ETH = "allow the eth API (geth: --http.api eth), or choose a plan with the method"
DEBUG = "allow the debug API (geth: --http.api eth,debug; Nethermind, Besu and Reth: the Debug module)"
TRACE = "allow the trace API (Erigon, Nethermind, Besu and Reth: the Trace module; geth has none)"
WS = "serve websockets (geth: --ws), or leave ws out of the node's table"

METHODS = (
    Method("eth_chainId", "which chain it is", "", ETH),
    Method("eth_getBlockByNumber", "heads, headers, which block is canonical", "", ETH),
    Method("eth_getBlockByHash", "the content of one block", "", ETH),
    Method("eth_getLogs", "tokens", "eth_getBlockReceipts is asked instead", ETH),
    Method("eth_blockNumber", "seeing that a websocket is silent", "eth_getBlockByNumber is asked instead", ETH),
    Method(
        "eth_getTransactionReceipt",
        "ether where the node does not trace; look-backs",
        "eth_getBlockReceipts is asked instead",
        ETH,
    ),
    Method(
        "eth_getBlockReceipts",
        "only where eth_getTransactionReceipt or eth_getLogs is refused",
        "look-backs read whole blocks",
        ETH,
    ),
    Method(
        "trace_block",
        "ether that contracts send",
        "debug_traceBlockByHash; without both, the transactions' own values, and balances are compared",
        TRACE,
    ),
    Method(
        "debug_traceBlockByHash",
        "ether that contracts send",
        "trace_block; without both, the transactions' own values, and balances are compared",
        DEBUG,
    ),
    Method(
        "debug_traceTransaction",
        "a block that cannot be traced as a whole",
        "trace_transaction; without both, the transactions' own values",
        DEBUG,
    ),
    Method(
        "trace_transaction",
        "a block that cannot be traced as a whole",
        "debug_traceTransaction; without both, the transactions' own values",
        TRACE,
    ),
    Method("eth_getBalance", "short look-backs; comparing balances", "look-backs read whole blocks", ETH),
    Method("eth_getTransactionCount", "short look-backs", "look-backs read whole blocks", ETH),
    Method("eth_getCode", "short look-backs; railwatch check of contracts", "look-backs read whole blocks", ETH),
    Method("eth_call", "comparing token balances; decimals in railwatch check", "token balances are not compared", ETH),
    Method("eth_subscribe", "being woken, over ws", "the daemon polls", WS),
)
