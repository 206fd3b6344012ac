"""Settings of the addresses at which the server is reached."""

from __future__ import annotations

import re

from pydantic import Field, field_validator

from serving.model_settings import ModelSettings

PORT = r"(:(6553[0-5]|655[0-2][0-9]|65[0-4][0-9]{2}|6[0-4][0-9]{3}|[1-5][0-9]{4}|[1-9][0-9]{0,3}))?"
ORIGIN = rf"https?://([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]){PORT}"
OWN_PORT = re.compile(r"(?<=^http:)(//.*):80$|(?<=^https:)(//.*):443$")
ORIGINS = rf"^\s*(\*|({ORIGIN})(\s*,\s*({ORIGIN}))*)?\s*$"


class AddressSettings(ModelSettings):
    """The models to serve, and the addresses of the server."""

    host: str = Field(
        "127.0.0.1",
        description="address to listen on. 0.0.0.0 is every IPv4 address, :: every address of "
        "IPv6 and IPv4",
    )
    port: int = Field(8000, ge=0, le=65535, description="port to listen on, 0 for any free port")
    grpc_port: int | None = Field(
        None,
        ge=0,
        le=65535,
        description="port for the Open Inference Protocol over gRPC, 0 for any free port; without "
        "it there is none. Needs the extra grpc",
    )
    cors_origins: str = Field(
        "",
        pattern=ORIGINS,
        description="origins of web pages that can call the API (CORS), separated by commas, as in "
        "https://shop.example,http://localhost:3000; or *; without it the API allows none",
    )
    root_path: str = Field(
        "",
        pattern=r"^(/[A-Za-z0-9._~-]*[A-Za-z0-9_~-][A-Za-z0-9._~-]*)*$",
        description="prefix under which a proxy serves the API, as in /offramp, whether or not the "
        "proxy removes it",
    )

    @property
    def origins(self) -> tuple[str, ...]:
        """The origins in `cors_origins`, as a browser sends them: without the scheme's own port."""
        found = (each.strip().lower() for each in self.cors_origins.split(",") if each.strip())
        return tuple(OWN_PORT.sub(r"\1\2", each) for each in found)

    @field_validator("host")
    @classmethod
    def _host_is_stated(cls, host: str) -> str:
        if not host.strip():
            raise ValueError(
                "the address is empty, which would be every address of the machine. Give 127.0.0.1 "
                "to listen on this machine only, or 0.0.0.0 for every IPv4 address"
            )
        return host
