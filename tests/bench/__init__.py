"""Benchmarks: ours next to the floor, in the same run on the same machine. `make bench`, never part of tests."""
