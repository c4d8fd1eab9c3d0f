"""How many runs are driven: search, batches of replicas."""

import warnings

# W&B's search package was written for an older pydantic, which says so at every start.
warnings.filterwarnings("ignore", message="Valid config keys have changed in V2")
