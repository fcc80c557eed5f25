"""Verdicts that may be looked at every minute: evidence, intervals and families of tests. Pure, and of plain Python.

Each function takes numbers and gives numbers, so that a verdict is the same on any machine and after any restart.
Evidence is an e-value: its mean is at most 1 while the null hypothesis holds, whatever was looked at before, so the
probability that it ever reaches 1 / alpha is at most alpha (Ville's inequality). It is handled as its logarithm.
"""
