"""A development node of the tiny rail, and what drives it."""
