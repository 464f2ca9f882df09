"""Orchestration: Prefect flows over the library. No arithmetic here."""
