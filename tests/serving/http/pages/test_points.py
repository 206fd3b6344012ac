"""The operating points of the playground are those that the server would answer with."""

from __future__ import annotations

import json
import shutil
import subprocess
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from offramp.bundle.manifest import Manifest, read_manifest
from serving.engine.policy import resolve

NODE = shutil.which("node")
pytestmark = pytest.mark.skipif(NODE is None, reason="needs node")
PRINT = """
import { pointsOf } from "%s";
let text = "";
for await (const part of process.stdin) text += part;
console.log(JSON.stringify(pointsOf(JSON.parse(text))));
"""


def points_of(manifest: Manifest, folder: Path) -> list[dict[str, Any]]:
    """Return the points of the page for a model."""
    web = shutil.copytree(str(files("serving.http.pages") / "web"), folder / "web")
    (web / "package.json").write_text('{"type": "module"}')
    model = manifest.model_dump(mode="json") | {"full_flops": manifest.full_flops}
    script = PRINT % (web / "points.js")
    assert NODE is not None
    words = [NODE, "--input-type=module", "--eval", script]
    run = subprocess.run(words, input=json.dumps(model), capture_output=True, text=True, check=True)
    found: list[dict[str, Any]] = json.loads(run.stdout)
    return found


def with_kinds(manifest: Manifest) -> Manifest:
    """Return a manifest with promises of three kinds, of which that at each exit is the dearest."""
    assert manifest.promises is not None
    first, *others = manifest.promises.offered
    exits = [{"losses": 0, "images": 1000}] * 3
    opened = [0.5, 0.5, 0.5, 0.0]
    changes = {"kind": "exit", "name": None, "by_exit": exits, "losses": 0, "thresholds": opened}
    changed = [first.model_dump() | changes, *(each.model_dump() for each in others)]
    promises = manifest.promises.model_dump() | {"offered": changed}
    return Manifest.model_validate(manifest.model_dump() | {"promises": promises})


@pytest.mark.parametrize("kinds", [False, True])
def test_each_point_is_that_of_the_server_for_all_its_names(
    promise_bundle: Path, tmp_path: Path, kinds: bool
) -> None:
    manifest = read_manifest(promise_bundle)
    manifest = with_kinds(manifest) if kinds else manifest
    seen = set()
    for point in points_of(manifest, tmp_path):
        for name in point["names"]:
            policy = resolve(manifest, **name["query"])
            assert list(policy.thresholds) == point["thresholds"], name
            seen.add(name["text"])
    assert manifest.promises is not None
    assert {str(each.level) for each in manifest.promises.offered} <= seen
