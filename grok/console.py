"""The console on which tables are printed: what runs contain is text to it, never markup."""

from typing import Any

import rich.console
from rich.text import Text

from grok.printable import printable


class Console(rich.console.Console):
    """A console of `rich` that reads no markup and no emoji names, and shows control characters.

    Styled text is given as `Text`.
    """

    def render_str(self, text: str, **options: Any) -> Text:
        """The text as it is printed, in a table as well."""
        return super().render_str(printable(text), **{**options, "markup": False, "emoji": False})
