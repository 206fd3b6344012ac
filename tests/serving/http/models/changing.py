"""A server whose models are changed by calls."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.serving.models.folders import add_version, damage
from tests.serving.servers import Running
from tests.serving.small_bundle import png, random_images

ADMIN = "the admin's"
JPEG = png(random_images(1, 0)[0], "JPEG")
PNG = png(random_images(1, 0)[0])


@dataclass
class Changing:
    """The server, its folder, and a client with the key of clients."""

    running: Running
    client: httpx.Client
    folder: Path
    bundle: Path

    def add(self, version: str, *, damaged: bool = False) -> Path:
        """Add a version of `cats` to the folder."""
        folder = add_version(self.folder, self.bundle, "cats", version)
        if damaged:
            damage(folder)
        return folder

    def change(
        self, action: str, version: str | None = None, name: str = "cats", **parameters: Any
    ) -> httpx.Response:
        """Load or unload a model."""
        given = parameters | ({"version": version} if version else {})
        body = {"parameters": given} if given else {}
        headers = {"Authorization": f"Bearer {ADMIN}"}
        path = f"/v2/repository/models/{name}/{action}"
        return self.client.post(path, json=body, headers=headers)

    def load(self, version: str | None = None, **parameters: Any) -> None:
        """Load a version of `cats`."""
        response = self.change("load", version, **parameters)
        assert (response.status_code, response.json()) == (200, {}), response.text

    def answer(
        self, path: str = "/classify", content: bytes = JPEG, **query: Any
    ) -> tuple[str, str]:
        """Return the version and the label of an answer, which names its version too."""
        response = self.client.post(path, content=content, params=query)
        assert response.status_code == 200, response.text
        body = response.json()
        label: str = body["answers"][0]["label"]
        return body["model"]["version"], label

    def index(self) -> dict[str, tuple[str, str]]:
        """Return state and reason of each version of `cats`."""
        rows = self.client.post("/v2/repository/index").json()
        return {row["version"]: (row["state"], row["reason"]) for row in rows}
