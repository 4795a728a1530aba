"""A fuzzer of what nodes answer: real development nodes, answers of theirs made hostile, and the daemon's `NodeSet`."""
