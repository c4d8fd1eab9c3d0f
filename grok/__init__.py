"""A laboratory for reproducing and mapping grokking."""

import warnings

# Sacred imports a module that setuptools has deprecated and says so at every start; the lock file
# pins a setuptools that still has it.
warnings.filterwarnings("ignore", message="pkg_resources is deprecated")
