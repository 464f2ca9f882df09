"""The same step over active pairs, and on a GPU."""
