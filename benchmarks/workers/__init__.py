"""One script per contestant, each run in an environment and a process of its own."""
