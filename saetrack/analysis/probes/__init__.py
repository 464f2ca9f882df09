"""What a linear probe reads from a few features, beside what it reads from the LM itself."""
