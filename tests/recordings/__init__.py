"""Recordings of development nodes, each with the ledger that follows from it. `make recordings` makes them anew."""
