"""The model: random stories over a real Postgres and fake nodes, and an oracle that reads chain and acts only."""
