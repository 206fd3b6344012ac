"""Options of a command, read from the command line into a frozen record.

The record is a class of pydantic-settings: a subclass of `Options`, or of `KeyOptions` for a
command that reads its keys from the environment. A field is an option in kebab case. Its
description is the help text.

    class ScoreOptions(Options):
        "Score images."

        images: CliPositionalArg[list[Path]] = Field(description="files to score")
        budget: str = Field("medium", description="name of a budget, or a number in (0, 1]")
        resume: CliToggleFlag[bool] = Field(default=False, description="continue the run in --out")
        unit: Literal["ms", "s"] = Field("ms", description="unit of the times")

    options = read_options(ScoreOptions, arguments, "offramp score")

A `list` is given by repeating its option, a `tuple` as JSON (`--weights '[1, 2]'`), None as
`null`, a `bool` as `true` or `false` unless it is a `CliToggleFlag` or a `CliImplicitFlag`.
"""

from __future__ import annotations

from argparse import RawDescriptionHelpFormatter
from collections.abc import Mapping, Sequence
from inspect import getdoc
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, SecretStr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    CliPositionalArg,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from offramp.command_line.parser import OptionParser, add_options, kebab, located, members, nested
from offramp.errors import UsageError

Read = TypeVar("Read", bound=BaseSettings)
POSITIONAL = get_args(CliPositionalArg[str])[1]  # metadata of an argument without a name
KEYS = frozenset({"api_key", "admin_key_file"})  # fields that the environment sets


class Options(BaseSettings):
    """Base of the options of a command that does not read its environment."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Return the command line as the only source."""
        return (init_settings,)


class KeyOptions(Options):
    """Base of the options of a command that reads its keys from the environment too.

    The other variables `OFFRAMP_*` are settings of a server that the shell or the container has:
    its `OFFRAMP_BUNDLE` is not the `--bundle` of `offramp classify --url`.
    """

    model_config = SettingsConfigDict(env_prefix="OFFRAMP_", env_ignore_empty=True)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Return the command line, and the environment for the keys."""
        return init_settings, _Keys(settings_cls)


class _Keys(EnvSettingsSource):
    """The variables of the fields in KEYS."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """Return the value, the name and whether the value is JSON. Only keys have a value."""
        if field_name not in KEYS:
            return None, field_name, False
        return super().get_field_value(field, field_name)


def read_options(
    kind: type[Read], arguments: Sequence[str], command: str, epilog: str | None = None
) -> Read:
    """Read the options of a command.

    `--help` prints every option with its choices and default, and raises SystemExit(0).

    Args:
        kind: Class of the options. Its docstring describes the command in the help.
        arguments: Words after the command's name.
        command: Name of the command, for the help: "offramp serve".
        epilog: Text below the options in the help.

    Raises:
        UsageError: An option is unknown or missing, or a value is not allowed. Exit code 2.
    """
    (given,) = given_options([kind], arguments, command, epilog)
    try:
        return kind(**given)
    except ValidationError as error:
        raise UsageError(explain(error, kind, given)) from error


def given_options(
    kinds: Sequence[type[BaseSettings]],
    arguments: Sequence[str],
    command: str,
    epilog: str | None = None,
) -> list[dict[str, Any]]:
    """Return the options that a command line gives, as fields of each class, not validated.

    Args:
        kinds: Classes that share the command line. The docstring of the first describes the
            command, that of any other is the title of its options.
        arguments: Words after the command's name.
        command: Name of the command, for the help.
        epilog: Text below the options in the help.

    Raises:
        UsageError: An option is unknown, or a value is missing.
    """
    parser = OptionParser(
        prog=command,
        description=getdoc(kinds[0]),
        epilog=epilog,
        formatter_class=RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    fields = [add_options(parser, kinds[0])]
    fields += [add_options(parser, kind, getdoc(kind)) for kind in kinds[1:]]
    values = vars(parser.read([kebab(word) for word in arguments]))
    return [nested(values, each) for each in fields]


def explain(
    error: ValidationError,
    kind: type[BaseModel],
    given: Mapping[str, object],
    prefix: str = "",
) -> str:
    """Return one line about the first thing that is wrong, with the option's name.

    Args:
        error: Error of the validation of `kind`.
        kind: Class of the options.
        given: Fields that the command line gave. Others come from the environment.
        prefix: Part of each option before the dot: `shape` for `--shape.exits`.
    """
    # Of the forms that a value can have, the one that it comes nearest to.
    first = max(error.errors(include_url=False), key=lambda one: len(one["loc"]))
    said = first["msg"].removeprefix("Value error, ")
    if not first["loc"]:
        return f"--{prefix}: {said}" if prefix else said
    path, field = located(kind, first["loc"])
    option = option_name(".".join([prefix, *path] if prefix else path))
    if POSITIONAL in field.metadata:
        option = path[0].upper()  # as in the help
    environment = str(kind.model_config.get("env_prefix") or "")
    variable = f"{environment}{path[0]}".upper()
    if first["type"] == "missing":
        source = f"{option} or {variable}" if environment else option
        return f"{source}: a value is required ({field.description})"
    source = variable if environment and path[0] not in given else option
    value = "" if SecretStr in members(field.annotation) else f"{first['input']}: "
    return f"{source}: {value}{said[0].lower()}{said[1:]} ({field.description})"


def option_name(field: str) -> str:
    """Return the option of a field: `--max-batch` of `max_batch`."""
    return f"--{field.replace('_', '-')}"
