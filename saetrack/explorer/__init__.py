"""Pages on which a feature's whole life is looked at: a server, a static site, their one page."""
