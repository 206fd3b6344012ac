"""Names of users are printed as they are."""

from __future__ import annotations

import pytest

from offramp.command_line.console import plain_console


@pytest.mark.parametrize("name", ["animal:dog:husky", "photos [v1]/a.png", "x[/red].png", "[b]"])
def test_names_are_printed_as_they_are(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    plain_console().print(f"left out: {name}", highlight=False)
    assert capsys.readouterr().out == f"left out: {name}\n"
