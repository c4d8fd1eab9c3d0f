"""Errors that are the user's to mend."""


class UserError(Exception):
    """Bad input or environment: shown as one line, exit code 2, no traceback."""
