"""`python -m biolmm.cli`."""

from biolmm.cli import main

main()
