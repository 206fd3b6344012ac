"""Bundle and images of the checks, and a server of two versions of the bundle."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.request import Request, urlopen

from pyarrow.parquet import read_table

from benchmarks.client import serving

ROOT = Path(__file__).parents[2]
BUNDLE = ROOT / "deploy" / "bundles" / "cifar10-msdnet"
KEY = "the admin key of a check"
CANARY, SHARE = "1", 0.5
PATIENCE = 60.0  # seconds for the load of the canary


def images() -> list[bytes]:
    """Return 500 images of the CIFAR-10 test set, as encoded files."""
    table = read_table(ROOT / "tests" / "data" / "cifar10-500.parquet")
    return [image["bytes"] for image in table["img"].to_pylist()]


@contextmanager
def serving_versions(bundle: Path, folder: Path, *options: str) -> Iterator[str]:
    """Serve two versions from a new folder of models, yield the URL, and stop at the end.

    Args:
        bundle: The bundle of both versions. Its folder has the name of the model.
        folder: An empty folder.
        options: Further options of the server.

    Raises:
        RuntimeError: The server did not start.
        HTTPError: The canary was not loaded.
    """
    models, key = folder / "models", folder / "admin-key"
    for version in ("1", "2"):
        shutil.copytree(bundle, models / bundle.name / version)
    key.write_text(KEY, encoding="ascii")
    with serving(models, "--admin-key-file", str(key), *options, kind="--models") as url:
        load_canary(url, bundle.name)
        yield url


def load_canary(url: str, name: str) -> None:
    """Let the older version answer a share of the calls.

    Raises:
        HTTPError: It was not loaded.
    """
    body = json.dumps({"parameters": {"version": CANARY, "share": SHARE}}).encode()
    headers = {"Authorization": f"Bearer {KEY}"}
    request = Request(f"{url}/v2/repository/models/{name}/load", body, headers)
    with urlopen(request, timeout=PATIENCE) as response:
        response.read()
