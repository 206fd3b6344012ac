from pathlib import Path
from typing import Annotated, Literal

import pytest
from pydantic import BaseModel, Field, PositiveInt, SecretStr
from pydantic_settings import BaseSettings, CliPositionalArg, CliToggleFlag, SettingsConfigDict

from offramp.command_line.options import KeyOptions, Options, given_options, read_options
from offramp.command_line.parser import WithoutValue
from offramp.errors import UsageError


class Size(BaseModel):
    height_px: PositiveInt = Field(32, description="height, in pixels")
    width_px: PositiveInt = Field(32, description="width, in pixels")


class Score(Options):
    """Score images."""

    images: CliPositionalArg[list[Path]] = Field(description="files to score")
    budget: str | None = Field(None, description="name of a budget, 10 % or more")
    weights: tuple[float, ...] = Field((1.0, 0.5), description="weight of each exit")
    level: float | tuple[float, ...] = Field(0.5, description="level, or one for each exit")
    tag: list[str] = Field([], description="word in the output")
    unit: Literal["ms", "s"] = Field("ms", description="unit of the times")
    mirror: bool = Field(default=True, description="mirror the images")
    resume: CliToggleFlag[bool] = Field(default=False, description="continue a run")
    engine: Annotated[str | None, WithoutValue("fast")] = Field(None, description="engine")
    size: Size = Field(Size(width_px=24), description="size of the images")
    plot: Path = Field(Path("plot.svg"), description="file to draw")
    origins: str = Field("", description="origins; without it none")


def score(*arguments: str) -> Score:
    return read_options(Score, ["a.png", *arguments], "offramp score")


def test_without_options_it_is_the_defaults() -> None:
    assert score() == Score(images=[Path("a.png")])


def test_an_option_of_every_kind_is_read() -> None:
    read = read_options(
        Score,
        [
            *("a,b.png", "c d.png", "--budget=low", "--weights", "[1, 2]", "--level", "0.25"),
            *("--tag", "x,y", "--tag", "z", "--unit", "s", "--mirror", "false", "--resume"),
            *("--engine", "--size.height-px", "8"),
        ],
        "offramp score",
    )
    assert read.images == [Path("a,b.png"), Path("c d.png")]
    assert (read.budget, read.weights, read.level) == ("low", (1.0, 2.0), 0.25)
    assert (read.tag, read.unit, read.mirror, read.resume) == (["x,y", "z"], "s", False, True)
    assert (read.engine, read.size.height_px) == ("fast", 8)
    assert score("--level", "[0.25, 1]").level == (0.25, 1.0)
    assert score("--engine", "slow").engine == "slow"
    assert score("--budget", "null").budget is None
    assert score("--size.height_px=9").size.height_px == 9


def test_the_environment_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("BUDGET", "UNIT", "budget", "OFFRAMP_BUDGET"):
        monkeypatch.setenv(name, "s")
    assert score() == Score(images=[Path("a.png")])


def test_the_environment_sets_keys_only(monkeypatch: pytest.MonkeyPatch) -> None:
    class Send(KeyOptions):
        bundle: Path | None = Field(None, description="folder")
        images: list[Path] = Field([], description="files")
        api_key: SecretStr | None = Field(None, description="key")
        admin_key_file: Path | None = Field(None, description="file")

    # OFFRAMP_BUNDLE is that of a server, and OFFRAMP_IMAGES is no JSON
    for name in ("BUNDLE", "IMAGES", "API_KEY", "ADMIN_KEY_FILE"):
        monkeypatch.setenv(f"OFFRAMP_{name}", "there")
    read = read_options(Send, [], "offramp send")
    assert (read.bundle, read.images, read.admin_key_file) == (None, [], Path("there"))
    assert read.api_key == SecretStr("there")
    assert read_options(Send, ["--api-key", "here"], "").api_key == SecretStr("here")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--unit", "h"], "--unit: h: input should be 'ms' or 's' (unit of the times)"),
        (["--weights", "[1, true, []]"], "--weights: []: input should be a valid number"),
        (["--level", "[1, x]"], "--level: [1, x]: "),
        (["--budgte", "x"], "--budgte: no such option; did you mean --budget?"),
        (["--xyz=1"], "--xyz: no such option; --help lists them"),
        (["--uni", "s"], "--uni: no such option; did you mean --unit?"),
        (["--budget"], "--budget: a value is missing"),
        (["--size.height-px", "0"], "--size.height-px: 0: input should be greater than 0"),
    ],
)
def test_a_wrong_option_is_one_line_that_names_it(arguments: list[str], says: str) -> None:
    with pytest.raises(UsageError) as caught:
        score(*arguments)
    assert str(caught.value).startswith(says)
    assert "\n" not in str(caught.value)


def test_a_missing_argument_is_named() -> None:
    with pytest.raises(UsageError, match=r"^IMAGES: a value is required; see --help$"):
        read_options(Score, [], "offramp score")


def test_an_argument_without_a_name_is_named_as_in_the_help() -> None:
    class Compare(Options):
        files: CliPositionalArg[list[Path]] = Field(min_length=2, description="files to compare")

    with pytest.raises(UsageError, match=r"^FILES: \['a'\]: list should have at least 2 items"):
        read_options(Compare, ["a"], "offramp compare")


def test_help_shows_choices_defaults_and_units(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        read_options(Score, ["--help"], "offramp score", "More is in the documents.")
    assert caught.value.code == 0
    shown = " ".join(capsys.readouterr().out.split())
    for text in (
        "usage: offramp score",
        "Score images.",
        "IMAGES files to score (required)",
        "--budget TEXT name of a budget, 10 % or more (default: null)",
        "--weights JSON weight of each exit (default: [1.0, 0.5])",
        "--level NUMBER|JSON level, or one for each exit (default: 0.5)",
        "--unit {ms,s} unit of the times (default: ms)",
        "--mirror {true,false} mirror the images (default: true)",
        "--resume continue a run (default: false)",
        "--engine [TEXT] engine (default: null)",
        "--plot PATH file to draw (default: plot.svg)",
        "--origins TEXT origins; without it none size of the images:",
        "size of the images:",
        "--size.height-px INTEGER height, in pixels (default: 32)",
        "--size.width-px INTEGER width, in pixels (default: 24)",
        "More is in the documents.",
    ):
        assert text in shown


class FromEnvironment(BaseSettings):
    """Read the environment also."""

    model_config = SettingsConfigDict(env_prefix="TEST_", frozen=True, extra="forbid")

    count: PositiveInt = Field(description="number of images")
    key: SecretStr | None = Field(None, min_length=9, description="key of the server")


def test_an_error_names_the_variable_that_has_the_value(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match=r"^--count or TEST_COUNT: a value is required"):
        read_options(FromEnvironment, [], "offramp score")
    monkeypatch.setenv("TEST_COUNT", "-3")
    with pytest.raises(UsageError, match=r"^TEST_COUNT: -3: input should be greater than 0"):
        read_options(FromEnvironment, [], "offramp score")
    assert read_options(FromEnvironment, ["--count", "3"], "offramp score").count == 3


def test_a_secret_is_not_shown_in_an_error() -> None:
    with pytest.raises(UsageError, match=r"^--key: ") as caught:
        read_options(FromEnvironment, ["--count", "3", "--key", "hush"], "offramp score")
    assert "hush" not in str(caught.value)


def test_several_classes_share_a_command_line() -> None:
    class Other(Options):
        """Other options."""

        other_unit: str = Field("s", description="unit")

    first, second = given_options([Score, Other], ["x", "--other-unit", "h"], "offramp score")
    assert (first, second) == ({"images": ["x"]}, {"other_unit": "h"})
