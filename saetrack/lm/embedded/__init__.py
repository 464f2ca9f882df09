"""Small LMs that are trained on this machine, from its own text."""
