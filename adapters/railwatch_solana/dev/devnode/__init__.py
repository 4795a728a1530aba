"""A Solana development node: the real virtual machine and programs, behind RPC and pubsub, with a simulated consensus.

`rpc` and `pubsub` speak to clients, `node` is what they speak to: a `chain`, which is the consensus that obeys, and a
`bank`, which is the machine that executes. All changes are `commands`, and `ledger` keeps them.
"""
