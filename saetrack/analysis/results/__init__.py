"""What an analysis comes to: patterns beside nulls, headline numbers, replicates, claims."""
