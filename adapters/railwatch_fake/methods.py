"""The whitelist: every question that this adapter may put to a fake node, and no other. So does README.md say."""

from railwatch.rail import Method

ALLOW = "remove it from FakeNode.refuses"

METHODS = (
    Method("identify", "which chain it is", "", ALLOW),
    Method("heads", "heads", "", ALLOW),
    Method("header_at", "which block is canonical", "", ALLOW),
    Method("block", "the content of blocks", "", ALLOW),
    Method("mempool", "payments that wait for a block", "payments are first seen in a block", ALLOW),
    Method("balance", "comparing balances", "balances are not compared", ALLOW),
)
