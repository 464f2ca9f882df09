"""Tests of saetrack.callbacks."""
