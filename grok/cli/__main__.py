"""`python -m grok.cli` is the command `grok`."""

from grok.cli import main

main()
