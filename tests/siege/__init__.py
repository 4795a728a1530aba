"""Everybody who may misbehave at once, and the honest merchants' ledger beside that of a quiet run."""
