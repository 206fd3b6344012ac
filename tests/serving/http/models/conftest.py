"""A server of two models, `cats` with versions 1 and 2, and `dogs` with version 1."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.serving.http.models.changing import ADMIN, Changing
from tests.serving.models.folders import add_version
from tests.serving.servers import serving

KEY = "clients"


@pytest.fixture(scope="session")
def models(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    for name, version in (("cats", "1"), ("cats", "2"), ("dogs", "1")):
        add_version(folder, bundle, name, version)
    return folder


@pytest.fixture(scope="module")
def changing(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Changing]:
    """A server of one model in a folder of its own, which a module changes."""
    folder = tmp_path_factory.mktemp("changing")
    add_version(folder, bundle, "cats", "1")
    key = folder / "key"
    key.write_text(f"{ADMIN}\n")
    with (
        serving(
            None, models=folder, admin_key_file=key, api_key=KEY, keep_previous=True, grpc_port=0
        ) as running,
        httpx.Client(
            base_url=running.url, timeout=30, headers={"Authorization": f"Bearer {KEY}"}
        ) as client,
    ):
        yield Changing(running, client, folder, bundle)
