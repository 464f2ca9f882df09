"""Text: documents, datasets, tokenising, packing into rows, disjoint splits."""
