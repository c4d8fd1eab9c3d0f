"""YAML that may come from anywhere: plain values, within limits of size, depth and aliases."""

from typing import Any

import yaml
from yaml.composer import Composer, ComposerError

from grok.errors import UserError
from grok.values import SCIENTIFIC

MAX_CHARACTERS = 2**17  # of a text; a sweep file has a few thousand
MAX_EXPANDED = 2**18  # characters of the values, with each alias written out
PER_VALUE = 8  # characters that each value counts besides its own, for what it takes to build it
MAX_DEPTH = 32


class Loader(Composer, yaml.CSafeLoader):
    """A safe YAML loader that refuses tags, reads 1e-3 as a number, and has the limits above.

    The events come from libyaml, and are composed in Python, where they are counted.
    """

    def __init__(self, text: str):
        yaml.CSafeLoader.__init__(self, text)
        Composer.__init__(self)
        self.depth = self.expanded = 0
        self.extents: dict[yaml.Node, tuple[int, int]] = {}  # characters and depth of each node

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """The next node of the text; ComposerError where it is beyond a limit."""
        event: Any = self.peek_event()
        if getattr(event, "tag", None) is not None:
            raise _refusal("tags are not read", event)
        before = self.expanded
        self.depth += 1
        depth = self.depth
        if depth <= MAX_DEPTH:
            node = super().compose_node(parent, index)
            if isinstance(event, yaml.AliasEvent):
                if node not in self.extents:
                    raise _refusal("an alias stands for what it is in", event)
                size, height = self.extents[node]
                self.expanded += size
                depth += height - 1
            elif node is not None:
                self.expanded += PER_VALUE + (len(node.value) if isinstance(node.value, str) else 0)
                self.extents[node] = self.expanded - before, 1 + self._height_below(node)
        self.depth -= 1
        if depth > MAX_DEPTH:
            raise _refusal(f"nested more than {MAX_DEPTH} deep", event)
        if self.expanded > MAX_EXPANDED:
            raise _refusal("too many values, with each alias written out", event)
        return node

    def _height_below(self, node: yaml.Node) -> int:
        children: list[yaml.Node] = []
        if isinstance(node, yaml.SequenceNode):
            children = node.value
        elif isinstance(node, yaml.MappingNode):
            children = [child for pair in node.value for child in pair]
        return max((self.extents[child][1] for child in children), default=0)


def _refusal(problem: str, event: Any) -> ComposerError:
    return ComposerError(problem=problem, problem_mark=event.start_mark)


Loader.add_implicit_resolver("tag:yaml.org,2002:float", SCIENTIFIC, list("-+.0123456789"))


def load(text: str) -> Any:
    """The values in a YAML text; UserError, in one line, if it is broken or beyond a limit."""
    if len(text) > MAX_CHARACTERS:
        raise UserError(f"YAML of more than {MAX_CHARACTERS:,} characters")
    try:
        return yaml.load(text, Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f" in line {mark.line + 1}" if mark else ""
        problem = " ".join(str(getattr(error, "problem", None) or error).split())
        raise UserError(f"broken YAML{place}: {problem}") from error
    except ValueError as error:  # a date or a number that Python does not have
        raise UserError(f"broken YAML: {error}") from error
