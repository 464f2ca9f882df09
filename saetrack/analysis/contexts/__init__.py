"""Where features fire: strongest contexts, datapoints, which features are live."""
