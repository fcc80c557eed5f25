"""Benchmarks: what an event costs, and how that compares with other ways to do the same work. See README.md."""
