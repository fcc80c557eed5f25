"""Telling of alerts: changes of checks on their way to webhooks, mail and a topic, until each has accepted them.

`teller` is the way in; `changes` has what is told, `outbox` keeps it over restarts, `routes` says who is told of what,
and each kind of target is a module: `webhook`, `mail`, `topic`.
"""
