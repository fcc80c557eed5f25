"""`monitor verify`: whether the store holds what a batch answer over the same messages says, or what a mirror holds."""
