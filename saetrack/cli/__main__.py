"""`python -m saetrack.cli`, which `torchrun -m saetrack.cli track mini` starts in each process."""

from saetrack.cli.main import main

main()
