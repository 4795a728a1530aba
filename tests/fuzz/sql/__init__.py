"""Hostile arguments of every SQL function, as every role, beside a daemon and a deliverer at work."""
