"""Sweeps: W&B sweep files, search, batches of runs, agents, the local endpoint, Slurm."""

import warnings

# W&B's search package was written for an older pydantic, which warns at every start.
warnings.filterwarnings("ignore", message="Valid config keys have changed in V2")
