"""The parser of a command line, made from classes of options by pydantic-settings."""

from __future__ import annotations

import json
from argparse import SUPPRESS, ArgumentParser, Namespace
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NoReturn, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined, to_jsonable_python
from pydantic_settings import BaseSettings, CliSettingsSource

from offramp.errors import UsageError

JSON = (dict, tuple)  # types that are given as JSON
METAVARS = {"bool": "{true,false}", "float": "NUMBER", "int": "INTEGER", "Path": "PATH"}
Annotation = Any  # of a field: a class, a union, a Literal, a generic


@dataclass(frozen=True, slots=True)
class WithoutValue:
    """Metadata of a field: the value of its option if the command line gives no value."""

    value: str


def nearest(word: str, known: Iterable[str]) -> str | None:
    """Return the known word that is nearest to a word, if one is near."""
    return next(iter(get_close_matches(word, list(known), n=1)), None)


def hint(word: str, known: Iterable[str]) -> str:
    """Return the end of an error text: the nearest known word, or where to find it."""
    near = nearest(word, known)
    return f"did you mean {near}?" if near else "--help lists them"


class OptionParser(ArgumentParser):
    """A parser that raises UsageError."""

    def error(self, message: str) -> NoReturn:
        """Raise UsageError with the message of argparse, made plainer."""
        text = message.removeprefix("argument ")
        text = text.replace("expected one argument", "a value is missing")
        names = text.removeprefix("the following arguments are required: ")
        raise UsageError(text if names == text else f"{names}: a value is required; see --help")

    def read(self, arguments: Sequence[str]) -> Namespace:
        """Return the namespace of the arguments, or name the unknown one."""
        namespace, unknown = self.parse_known_args(arguments)
        for word in unknown:
            option = word.partition("=")[0]
            if option.startswith("-"):
                end = hint(option, self._option_string_actions)
                raise UsageError(f"{option}: no such option; {end}")
        if unknown:
            raise UsageError(f"{unknown[0]}: not expected here; see --help")
        return namespace


def kebab(word: str) -> str:
    """Return an option with hyphens after a dot: `--shape.head_channels` has this form too."""
    option, equals, value = word.partition("=")
    if not option.startswith("--") or "." not in option:
        return word
    return option.replace("_", "-") + equals + value


def add_options(
    parser: OptionParser, kind: type[BaseSettings], title: str | None = None
) -> dict[str, FieldInfo]:
    """Add the options of a class to a parser, and return their fields by destination.

    Args:
        parser: Parser of the command.
        kind: Class of options. A record in it is a group of options: `--RECORD.FIELD`.
        title: Title of the other options in the help.
    """
    fields: dict[str, FieldInfo] = {}
    group = parser.add_argument_group(title) if title else parser

    def add_group(_: object, **how: Annotation) -> object:
        return parser.add_argument_group(how["description"])

    def add(container: ArgumentParser, *names: str, **how: Annotation) -> None:
        if how["help"] == SUPPRESS:  # a nested record as a whole
            return
        name = how.get("dest", names[0])
        fields[name], default = _field(kind, name)
        _adapt(how, fields[name])
        how["help"] = _help(fields[name], default).replace("%", "%%")
        container.add_argument(*names, **how)

    CliSettingsSource[Any](
        kind,
        root_parser=group,
        add_argument_method=add,
        add_argument_group_method=add_group,
        cli_kebab_case=True,
        cli_hide_none_type=True,
        cli_avoid_json=True,
        cli_parse_none_str="null",
    )
    return fields


def _adapt(how: dict[str, Any], field: FieldInfo) -> None:
    """Change the parsing of an option to the conventions of this module."""
    types = members(field.annotation)
    if "metavar" in how and "dest" in how:  # neither a flag nor an argument without a name
        how["metavar"] = "|".join(dict.fromkeys(map(_metavar, types)))
    if how.get("action") == "append" and any(_origin(one) in JSON for one in types):
        del how["action"]
    for mark in field.metadata:
        if isinstance(mark, WithoutValue):
            how |= {"nargs": "?", "const": mark.value}


def _origin(annotation: Annotation) -> object:
    return get_origin(annotation)


def _metavar(member: Annotation) -> str:
    origin = _origin(member)
    if origin is Literal:
        return f"{{{','.join(map(str, get_args(member)))}}}"
    if origin is list:
        return _metavar(*members(get_args(member)[0]))
    return "JSON" if origin in JSON else METAVARS.get(member.__name__, "TEXT")


def _help(field: FieldInfo, default: object) -> str:
    text = field.description or ""
    if field.is_required():
        return f"{text} (required)"
    if default is PydanticUndefined or default == "" or "(default:" in text:
        return text  # the description says what holds without the option
    return f"{text} (default: {_text(default)})"


def _text(value: object) -> str:
    plain = isinstance(value, str | Path)
    return str(value) if plain else json.dumps(to_jsonable_python(value))


def _field(kind: type[BaseModel], destination: str) -> tuple[FieldInfo, Any]:
    """Return a field by its dotted name, and its default in the record that holds it."""
    *path, name = destination.split(".")
    record: Any = None
    for step in path:
        outer = kind.model_fields[step]
        record = getattr(record, step) if record else outer.default
        kind = members(outer.annotation)[0]
    field = kind.model_fields[name]
    return field, getattr(record, name) if path else field.default


def located(kind: type[BaseModel], location: Sequence[object]) -> tuple[list[str], FieldInfo]:
    """Return the path of names, and the field, at the location of a validation error."""
    path = [str(location[0])]
    field = kind.model_fields[path[0]]
    for step in location[1:]:
        inner = members(field.annotation)[0]
        if not (isinstance(inner, type) and issubclass(inner, BaseModel)):
            break
        path.append(str(step))
        field = inner.model_fields[path[-1]]
    return path, field


def members(annotation: Annotation) -> list[Annotation]:
    """Return the types of a union without None, or the type itself, each without metadata."""
    if _origin(annotation) is Annotated:
        return members(get_args(annotation)[0])
    if _origin(annotation) in (Union, UnionType):
        return [m for one in get_args(annotation) if one is not NoneType for m in members(one)]
    return [annotation]


def nested(values: Mapping[str, Any], fields: Mapping[str, FieldInfo]) -> dict[str, Any]:
    """Return the values of these fields, by destination, as a record in records."""
    given: dict[str, Any] = {}
    for destination, field in fields.items():
        value = values.get(destination, PydanticUndefined)
        if value is not PydanticUndefined:
            *path, name = destination.split(".")
            inner = given
            for step in path:
                inner = inner.setdefault(step, {})
            inner[name] = _decoded(value, field)
    return given


def _decoded(value: object, field: FieldInfo) -> object:
    """Return None for `null`, and the value of JSON for a type that is given as JSON."""
    if not isinstance(value, str):
        return value
    if value == "null" and NoneType in get_args(field.annotation):
        return None
    if any(_origin(one) in JSON for one in members(field.annotation)):
        try:
            return json.loads(value)
        except json.JSONDecodeError:
            return value
    return value
