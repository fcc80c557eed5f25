"""`monitor watch`: every final minute all checks of all experiments; what changes is recorded, written and told."""
