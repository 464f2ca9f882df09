"""Which LMs have public training checkpoints, as data."""
