"""Kafka topics and recorded logs, as commands read and write them."""
