"""The base of all records that are read from options or files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Self

from pydantic import BaseModel, ConfigDict, ValidationError

from training.errors import RecipeError


class FrozenModel(BaseModel):
    """A frozen pydantic model that refuses unknown fields, NaN and infinity."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @classmethod
    def parse(cls, fields: Mapping[str, object], *, option: str, name: str) -> Self:
        """Build a record from the fields that differ from the defaults.

        Args:
            fields: Values by field name.
            option: Option that the fields belong to, for errors.
            name: Value of that option, for errors.

        Raises:
            RecipeError: A field is unknown or out of range.
        """
        try:
            return cls.model_validate(dict(fields))
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = ".".join([option, *map(str, first["loc"])])
            known = ", ".join(cls.model_fields) or "none"
            text = f"{where}: {first['msg']} (fields of {name}: {known})"
            raise RecipeError(text) from error
