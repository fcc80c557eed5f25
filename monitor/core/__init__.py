"""The core: events in, deltas out. Pure: no engine, no I/O, no clock, no randomness, no logs."""
