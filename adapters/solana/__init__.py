"""Solana: the adapter and its development node."""
