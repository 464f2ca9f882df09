"""Benchmarks against other trainers, and of this project's own cost: `python -m benchmarks`."""
