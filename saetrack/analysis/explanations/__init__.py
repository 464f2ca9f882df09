"""What a model says a feature means, and at which links of a chain that is true."""
