"""From registered chains to tables, figures and pages in the registry."""
