"""Settings of the models: what a shadow is written as."""

from __future__ import annotations

from pathlib import Path

import pytest

from offramp.errors import UsageError
from offramp.options import read_options
from serving.settings import Settings


@pytest.mark.parametrize(
    ("text", "shadows"),
    [
        ("", {}),
        ("cats@2=5%", {"cats": ("2", 0.05)}),
        ("cats@2=5 %, dogs-b_1@10=1", {"cats": ("2", 0.05), "dogs-b_1": ("10", 1.0)}),
        ("cats@2=.5", {"cats": ("2", 0.5)}),
    ],
)
def test_shadows_have_a_model_a_version_and_a_share(
    text: str, shadows: dict[str, tuple[str, float]]
) -> None:
    assert Settings(models=Path("m"), shadow=text).shadows == shadows


@pytest.mark.parametrize(
    "text",
    ["cats", "cats@2", "cats=5%", "cats@x=5%", "cats@2=0", "cats@2=101%", "a@1=1,a@2=1", "A@1=1"],
)
def test_other_shadows_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--shadow"):
        read_options(Settings, ["--models", "m", f"--shadow={text}"], "serve")
    with pytest.raises(UsageError, match="--models"):
        read_options(Settings, ["--bundle", "b", "--shadow=cats@2=5%"], "serve")
