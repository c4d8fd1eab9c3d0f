"""The page of papers, sweeps and runs: live (`grok board`), or as one file (`grok report`)."""
