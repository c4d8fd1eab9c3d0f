"""Text from runs, files and requests as it may go to a terminal."""

import unicodedata

import click

# Control and format characters (escape sequences, changes of direction) and separators of lines.
HIDDEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}


def printable(text: str, kept: str = "\n\t") -> str:
    """The text with an escape such as \\x1b in the place of each character that only acts.

    Arguments:
        kept: such characters that stay.
    """
    if text.isprintable():
        return text
    return "".join(
        character.encode("unicode_escape").decode()
        if unicodedata.category(character) in HIDDEN and character not in kept
        else character
        for character in text
    )


def echo(text: object, err: bool = False) -> None:
    """Print a line that may have text from anywhere in it."""
    click.echo(printable(str(text)), err=err)
