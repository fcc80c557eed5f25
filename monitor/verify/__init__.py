"""`monitor verify`: compares the store with a batch answer over the same messages, or with a mirror."""
