"""Chains beside conventional SAEs, and several chains side by side."""
