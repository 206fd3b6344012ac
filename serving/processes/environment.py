"""Warnings about the environment that settings are read from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from offramp.authorization import WHITE_SPACE
from offramp.command_line.parser import nearest
from serving.settings import KEY, PREFIX, Settings


def unknown_variables(names: Iterable[str]) -> Iterator[str]:
    """Return a warning for each environment variable with our prefix that sets nothing."""
    known = {field.upper(): f"{PREFIX}{field}".upper() for field in Settings.model_fields}
    for name in names:
        field = name.upper().removeprefix(PREFIX)
        if name.upper() == f"{PREFIX}{field}" and field not in known:
            near = nearest(field, known)
            hint = f"did you mean {known[near]}?" if near else "offramp serve --help lists them"
            yield f"{name} is not a setting and has no effect; {hint}"


def key_warnings(environment: Mapping[str, str]) -> Iterator[str]:
    """Return a warning if the API key in the environment has white space around it.

    A file with a secret often ends with a line end.
    """
    for name, value in environment.items():
        if name.upper() == KEY and value != value.strip(WHITE_SPACE):
            yield f"{name} begins or ends with white space or a line end, which is removed"
