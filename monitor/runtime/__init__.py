"""The basics of any process: errors, clock, signals, memory, logs, waiting, console, listening."""
