"""All who may misbehave, at once, and the honest merchants' ledger next to that of a quiet run."""
