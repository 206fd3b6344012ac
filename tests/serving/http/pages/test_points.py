"""The operating points of the playground are those that the server would answer with."""

from __future__ import annotations

import json
import shutil
import subprocess
from importlib.resources import files
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from offramp.bundle.manifest import Manifest, read_manifest
from serving.engine.budgets.milliseconds import Milliseconds
from serving.engine.latency import Latency
from serving.engine.policy import resolve
from serving.http.schemas import describe

NODE = shutil.which("node")
pytestmark = pytest.mark.skipif(NODE is None, reason="needs node")
RUN = """
import { flopsAt, pointsOf } from "%s";
let text = "";
for await (const part of process.stdin) text += part;
const given = JSON.parse(text);
console.log(JSON.stringify(%s));
"""
SHIPPED = Path(__file__).parents[4] / "deploy" / "bundles"


def run(code: str, given: object, folder: Path) -> Any:
    """Run code of the page on a value `given`, and return the result."""
    web = shutil.copytree(str(files("serving.http.pages") / "web"), folder / "web")
    (web / "package.json").write_text('{"type": "module"}')
    assert NODE is not None
    words = [NODE, "--input-type=module", "--eval", RUN % (web / "points.js", code)]
    done = subprocess.run(
        words, input=json.dumps(given), capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout)


def points_of(manifest: Manifest, folder: Path) -> list[dict[str, Any]]:
    """Return the points of the page for a model."""
    model = manifest.model_dump(mode="json") | {"full_flops": manifest.full_flops}
    found: list[dict[str, Any]] = run("pointsOf(given)", model, folder)
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


@pytest.mark.parametrize("name", ["clothing-lite0", "cifar10-msdnet"])
def test_an_answer_costs_what_the_server_says(name: str, tmp_path: Path) -> None:
    """Of a chain, the network on the smaller image does not run if no exit of it is evaluated."""
    manifest = read_manifest(SHIPPED / name)
    milliseconds = Milliseconds(manifest, Latency([1], [[1e-3]] * manifest.exits))
    model = describe(manifest, milliseconds).model_dump(mode="json")
    cases = [
        ([0.5 if asked else 2.0 for asked in (*early, True)], exit_)
        for early in product((False, True), repeat=manifest.exits - 1)
        for exit_ in range(1, manifest.exits + 1)
    ]
    code = "given.cases.map(([thresholds, exit]) => flopsAt(given.model, thresholds, exit))"
    found = run(code, {"model": model, "cases": cases}, tmp_path)
    assert found == [manifest.flops_of(exit_, [t <= 1 for t in ts]) for ts, exit_ in cases]
