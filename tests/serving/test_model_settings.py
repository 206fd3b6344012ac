"""Settings of the models: what a shadow and a share are written as."""

from __future__ import annotations

from pathlib import Path

import pytest

from offramp.command_line.options import read_options
from offramp.errors import UsageError
from serving.model_settings import parse_share, read_key
from serving.settings import Settings


@pytest.mark.parametrize("value", ["5%", "5 %", " 5.0% ", "0.05", ".05", 0.05])
def test_a_share_is_a_percentage_or_a_number(value: object) -> None:
    assert parse_share(value) == 0.05


@pytest.mark.parametrize("value", ["101%", 2, -0.1, "nan", "5 percent", "%", "", True, None, []])
def test_other_shares_are_refused(value: object) -> None:
    for from_zero in (False, True):
        with pytest.raises(ValueError, match=r"as in 5% or 0\.05"):
            parse_share(value, from_zero=from_zero)


def test_only_some_shares_can_be_zero() -> None:
    assert parse_share("0%", from_zero=True) == 0
    with pytest.raises(ValueError, match="above 0"):
        parse_share("0%")


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


def test_a_key_is_read_whole_or_refused(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text(f" {'k' * 4000}\n")
    assert read_key(path) == "k" * 4000
    path.write_text("k" * 5000)
    with pytest.raises(UsageError, match="key: has more than 4096 bytes; keep the key alone in it"):
        read_key(path)
    path.write_text("\n")
    with pytest.raises(UsageError, match="no key of printable ASCII characters"):
        read_key(path)
