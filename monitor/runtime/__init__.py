"""What any process needs: errors, clock, signals, memory, logs, waiting, console, listening."""
