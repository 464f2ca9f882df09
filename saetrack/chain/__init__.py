"""What a chain IS: its config, its plan, its identities. Trains nothing."""
