"""Language models: the only package that loads one."""
