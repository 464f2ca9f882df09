"""What residuals do: similarity, continuity, collapse."""
