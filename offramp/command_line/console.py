"""The console of commands that print names of files and classes."""

from __future__ import annotations

from rich.console import Console


def plain_console(*, quiet: bool = False) -> Console:
    """Return a console that prints texts as they are: `[v1]` is no style, and `:cat:` no picture.

    Args:
        quiet: Print nothing.
    """
    return Console(soft_wrap=True, markup=False, emoji=False, quiet=quiet)
