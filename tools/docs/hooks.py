"""Changes of the built site, which `mkdocs.yml` names as hooks."""

import re
from typing import Any

IMAGE = re.compile(r'<img (?:[^">]|"[^"]*")*?src="([^"]+)"(?:[^">]|"[^"]*")*>')


def on_page_content(html: str, **_: Any) -> str:
    """A page whose pictures are links to themselves, so that a click or a tap enlarges them."""
    return IMAGE.sub(r'<a href="\1">\g<0></a>', html)
