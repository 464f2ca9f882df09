"""What is measured of features, beside what chance would give."""
