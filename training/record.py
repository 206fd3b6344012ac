"""The base of every configuration record."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Self

from pydantic import BaseModel, ConfigDict, ValidationError

from training.errors import RecipeError


class Record(BaseModel):
    """A frozen record that refuses fields it does not know, and NaN."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @classmethod
    def of(cls, fields: Mapping[str, object], what: str, name: str) -> Self:
        """The record with these fields.

        Args:
            fields: those that differ from the defaults.
            what: the option that they belong to, for errors.
            name: what was chosen there, for errors.

        Raises:
            RecipeError: a field is unknown or out of range.
        """
        try:
            return cls.model_validate(dict(fields))
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = ".".join([what, *map(str, first["loc"])])
            known = ", ".join(cls.model_fields) or "none"
            text = f"{where}: {first['msg']} (fields of {name}: {known})"
            raise RecipeError(text) from error
