"""KairosDB: the only room that speaks HTTP to it."""
