"""AB Monitor: a real-time monitor of A/B experiments, from Kafka to KairosDB."""

__version__ = "0.1.0"
"""The only place of the version: hatchling reads it for the wheel, and a checkout that is not installed has it too."""
