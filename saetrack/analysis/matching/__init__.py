"""Which feature of one SAE is which of another."""
