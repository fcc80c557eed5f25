"""The root of every error that a person can act on: one message, exit status 2 of a command."""


class MonitorError(Exception):
    """Something asked for cannot be done; the message says the rule, the place, what came, and what to do."""
