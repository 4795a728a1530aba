"""Hostile arguments of every SQL function, as every role, next to a daemon and a deliverer at work."""
