"""Errors that a person can act on, below one root: one message, exit status 2 of a command."""


class MonitorError(Exception):
    """Something asked for cannot be done; the message says the rule, the place, what came, and what to do."""


class JobError(MonitorError):
    """The job cannot start or continue, or its recovery store cannot be used."""
