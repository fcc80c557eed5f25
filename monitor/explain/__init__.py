"""`monitor explain`: the messages and visits of one session, what happened to each, and what each visit counts for."""
