"""`python -m galbatch.cli`."""

from galbatch.cli import main

main()
