"""What a paper's file is made of: experiment, configuration, recording, resuming."""

import sys

# Sacred imports pandas, for values of configurations that are pandas objects, which costs almost a
# CPU second. No key of an experiment has such a value.
if "pandas" not in sys.modules:
    sys.modules["pandas"] = None  # type: ignore[assignment]  # an import of it fails
    import sacred  # noqa: F401

    del sys.modules["pandas"]
