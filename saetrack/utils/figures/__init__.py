"""What every figure shares, the figure of a chain, and tables as text; knows no analysis."""
