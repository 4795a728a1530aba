"""Record what a rail's nodes say, and drive the daemon from it again (docs/record-replay.md)."""
