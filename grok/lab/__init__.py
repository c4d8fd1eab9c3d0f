"""How a run is kept: Sacred experiments, the store, progress, W&B."""

import warnings

# Sacred imports pkg_resources, which warns at every start; that one warning is silenced here.
warnings.filterwarnings("ignore", message="pkg_resources is deprecated as an API")
