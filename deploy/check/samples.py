"""Bundles and images of the checks, and a server of two versions of a model."""

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
QUANTIZED = BUNDLE.with_name(f"{BUNDLE.name}-int8")
KEY = "the admin key of a check"
NEW, SHARE = "2", "50%"  # version that is tried, and its share of the calls
PATIENCE = 60.0  # seconds for the load


def images() -> list[bytes]:
    """Return 500 images of the CIFAR-10 test set, as encoded files."""
    table = read_table(ROOT / "tests" / "data" / "cifar10-500.parquet")
    return [image["bytes"] for image in table["img"].to_pylist()]


@contextmanager
def serving_versions(folder: Path, *options: str) -> Iterator[str]:
    """Serve two versions from a new folder of models, yield the URL, and stop at the end.

    The first version answers. The second one, of 8-bit integers, is its shadow.

    Args:
        folder: An empty folder.
        options: Further options of the server.

    Raises:
        RuntimeError: The server did not start.
    """
    models, key = folder / "models", folder / "admin-key"
    for version, bundle in (("1", BUNDLE), (NEW, QUANTIZED)):
        shutil.copytree(bundle, models / BUNDLE.name / version)
    key.write_text(KEY, encoding="ascii")
    shadow = ("--shadow", f"{BUNDLE.name}@{NEW}={SHARE}")
    with serving(models, "--admin-key-file", str(key), *shadow, *options, kind="--models") as url:
        yield url


def load_canary(url: str) -> None:
    """Let the new version answer a share of the calls, and be a shadow no more.

    Raises:
        HTTPError: It was not loaded.
    """
    body = json.dumps({"parameters": {"version": NEW, "share": SHARE}}).encode()
    headers = {"Authorization": f"Bearer {KEY}"}
    request = Request(f"{url}/v2/repository/models/{BUNDLE.name}/load", body, headers)
    with urlopen(request, timeout=PATIENCE) as response:
        response.read()
