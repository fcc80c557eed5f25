"""`monitor explain`: what was seen of a visit, what became of each message, and what the visit counts for and why."""
