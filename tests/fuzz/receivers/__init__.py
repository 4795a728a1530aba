"""Receivers of webhooks that do whatever a socket lets them, and what the deliverer may make of it."""
