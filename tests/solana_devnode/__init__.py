"""The Solana development node, asked over its own wire."""
