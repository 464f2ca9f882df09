"""Where servers of the project listen on a machine, unless told otherwise."""

# Of `saetrack explore`; pages of analyses look for it there.
EXPLORER_PORT = 8400
