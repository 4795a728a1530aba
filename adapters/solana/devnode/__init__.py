"""A Solana development node: the real virtual machine and programs, behind RPC and pubsub, with a simulated consensus.

`rpc` and `pubsub` speak to clients, `node` is what they speak to; `chain` is the consensus that obeys, `bank` the machine that executes.
"""
