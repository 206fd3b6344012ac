"""Settings of an engine in this process: given by arguments only, never by the environment."""

from __future__ import annotations

from pydantic import ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource

from serving.errors import ParameterError
from serving.settings import Settings

LARGEST_FILE = 1 << 30  # bytes. What is decoded is bounded by `max_pixels`
FIXED = {
    "max_images": 1,  # a limit of HTTP
    "max_body_bytes": LARGEST_FILE,
    "max_held_bytes": LARGEST_FILE,
    "order": "fullest",  # full batches give the highest throughput
}


class _GivenSettings(Settings):
    """Settings that no environment variable changes."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003
        init_settings: PydanticBaseSettingsSource,
        *sources: PydanticBaseSettingsSource,  # noqa: ARG003
        **named_sources: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Return the arguments as the only source."""
        return (init_settings,)


def settings_from(**given: object) -> Settings:
    """Check settings and fill in the defaults of the server, but for the order of batches.

    Args:
        **given: Values by field. `None` is the default.

    Raises:
        ParameterError: A value is not allowed.
    """
    try:
        values = {name: value for name, value in given.items() if value is not None}
        return _GivenSettings.model_validate(values | FIXED)
    except ValidationError as error:
        raise parameter_error(error) from error


def parameter_error(error: ValidationError) -> ParameterError:
    """Return the error that names the first argument that is not valid."""
    first = error.errors(include_url=False)[0]
    return ParameterError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}")
