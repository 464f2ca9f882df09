"""The command line over the registry: one command a file, put together in `main`."""
