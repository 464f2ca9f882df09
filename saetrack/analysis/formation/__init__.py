"""How features form: the progress measure, phases, regions, planes."""
