"""Analyses of trained chains, a folder for each topic; `pipeline` runs them. Trains nothing."""
