"""LMs with public weights, as data: `published.yaml`, and a file of the user's in the same form."""
